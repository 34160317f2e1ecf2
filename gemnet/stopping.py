"""Ctrl-C and SIGTERM: the first ends a program once what runs is saved, the second ends it at once."""

import os
import signal
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
NOTICE = b"\nStopping: what runs now is finished and saved, nothing new is begun. Once more stops at once.\n"


class Stop:
    """A wish to stop, heard from signals.

    Attributes:
        requested: turns true with the first signal.
        signal: which one that was.
    """

    requested = False
    signal = signal.SIGINT
    _deaf = False

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Within it (in the main thread) the first SIGINT or SIGTERM is noted, the second is a KeyboardInterrupt.

        Signals that this process was started to ignore, as by `nohup` or a script's `&`, stay ignored. Processes that
        are forked within it ignore both: Ctrl-C reaches them too, and this one decides.
        """
        before = {number: signal.getsignal(number) for number in SIGNALS}
        self._process = os.getpid()
        for number, handler in before.items():
            if handler is not signal.SIG_IGN:
                signal.signal(number, self._hear)
        try:
            yield
        except KeyboardInterrupt as error:
            self._deaf = True
            traceback.clear_frames(error.__traceback__)  # waits for reading processes, deaf, since Python would print
            raise
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def end(self) -> None:
        """Ends the program, if that was wished for: raises KeyboardInterrupt."""
        if self.requested:
            raise KeyboardInterrupt

    def _hear(self, number: int, _: FrameType | None) -> None:
        if self._deaf or os.getpid() != self._process:
            return
        self.end()
        self.requested, self.signal = True, signal.Signals(number)
        os.write(2, NOTICE)  # print may be in the middle of a line of its own
