"""Local processes that share numbered pieces of work; their answers come back in the order of the pieces."""

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import pickle
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any

from gemnet.errors import EvaluationError, GemnetError

from .threads import environment_threads
from .worker import READY, describe, end_with_driver
from .workers import ending, interrupts_blocked

DONE, RAISED = "done", "raised"
Work = Callable[[int, Any], Any]


def in_order(work: Work, pieces: int, workers: int, hint: Callable[[], Any]) -> Iterator[Any]:
    """`work(number, hint())` for numbers 0 .. pieces - 1, in this order; the hint is taken when a piece is handed out.

    Args:
        work: pickled once, sent to every process once.
        pieces: how many.
        workers: processes, each with one thread for numerical libraries; they end with this one.
        hint: what is known by then; it may depend on the answers that this iterator has given.

    Raises:
        EvaluationError: a process dies, the work cannot be sent, or it raises what is no GemnetError.
        GemnetError: the work raises it.
    """
    sent = _pickled(work)
    crew = [_Member(f"worker {k + 1} of {min(workers, pieces)}", sent) for k in range(min(workers, pieces))]
    answers: dict[int, Any] = {}
    handed_out = 0
    try:
        for number in range(pieces):
            while number not in answers:
                for member in _heard([member for member in crew if member.busy]):
                    answer = member.receive()
                    if member.piece is not None:
                        answers[member.piece] = answer
                    member.piece = None
                    if handed_out < pieces:
                        member.send(handed_out, hint())
                        handed_out += 1
            yield answers.pop(number)
    finally:
        for member in crew:
            member.end()


def serve(pipe: Connection, work_bytes: bytes) -> None:
    """Answers requests (a number and a hint) with what the work returns, until the driver is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the driver decides
    threading.Thread(target=end_with_driver, daemon=True).start()
    os.dup2(sys.stderr.fileno(), 1)  # stdout belongs to the driver's results
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        try:
            work: Work = pickle.loads(work_bytes)
        except Exception as error:  # noqa: BLE001 - reported to the driver, which raises
            pipe.send((RAISED, EvaluationError(f"a worker cannot load its work: {describe(error)}")))
            return
        torch = sys.modules.get("torch")
        if torch:
            torch.set_num_threads(1)
        pipe.send((READY, None))
        while True:
            pipe.send(_attempt(work, *pipe.recv()))


def _attempt(work: Work, number: int, hint: Any) -> tuple[str, Any]:
    try:
        return DONE, work(number, hint)
    except GemnetError as error:
        return RAISED, error
    except Exception as error:  # noqa: BLE001 - reported to the driver, which raises
        return RAISED, EvaluationError(f"piece {number} failed: {describe(error)}")


class _Member:
    """A process, the pipe to it, and the piece it has."""

    def __init__(self, name: str, work_bytes: bytes) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process: SpawnProcess = context.Process(target=serve, args=(theirs, work_bytes), daemon=True)
        with environment_threads(1), interrupts_blocked():
            self.process.start()
        theirs.close()  # so that its end closes with the process
        self.name = f"{name} (process {self.process.pid})"
        self.ready = False
        self.piece: int | None = None

    @property
    def busy(self) -> bool:
        """Whether it will be heard from."""
        return not self.ready or self.piece is not None

    def send(self, piece: int, hint: Any) -> None:
        self.piece = piece
        with contextlib.suppress(OSError):  # it died just now; reading from it says so
            self.pipe.send((piece, hint))

    def receive(self) -> Any:
        """What it answered; raises what it raised, or EvaluationError when it died."""
        try:
            status, value = self.pipe.recv()
        except (EOFError, OSError):
            self.process.join()
            at = "while starting" if self.piece is None else f"at piece {self.piece}"
            raise EvaluationError(f"{self.name} died {at} ({ending(self.process.exitcode)})") from None
        if status == RAISED:
            raise value
        self.ready = True
        return value

    def end(self) -> None:
        if self.process.is_alive():
            self.process.kill()
        self.process.join()
        self.pipe.close()
        self.process.close()


def _heard(busy: list[_Member]) -> list[_Member]:
    """Those that answered or died; waits until there is one."""
    ready = multiprocessing.connection.wait([member.pipe for member in busy])
    return [member for member in busy if member.pipe in ready]


def _pickled(work: Work) -> bytes:
    try:
        return pickle.dumps(work)
    except Exception as error:  # noqa: BLE001 - pickle raises many kinds
        raise EvaluationError(f"the work cannot be sent to workers: {describe(error)}") from None
