import os
import signal

import pytest

from gemnet.stopping import SIGNALS, Stop


@pytest.fixture(autouse=True)
def by_default():
    """A job that a shell started with & ignores SIGINT."""
    before = {number: signal.signal(number, signal.default_int_handler) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_forked_process_leaves_the_decision_to_its_parent(number, capfd):
    with Stop().heard():
        child = os.fork()
        if child == 0:
            interrupted = False
            try:
                for _ in range(3):
                    os.kill(os.getpid(), number)
            except KeyboardInterrupt:
                interrupted = True
            os._exit(1 if interrupted else 7)
        _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 7
    assert capfd.readouterr().err == ""


def test_a_signal_while_all_is_ended_is_no_traceback(capfd):
    class Readers:
        """Processes that are waited for when they are no longer needed, where Python prints what is raised."""

        ended = 0

        def __del__(self):
            signal.raise_signal(signal.SIGINT)
            Readers.ended += 1

    def train(stop):
        readers = Readers()  # noqa: F841 - lives in the frame
        signal.raise_signal(signal.SIGINT)
        stop.end()

    stop = Stop()
    with pytest.raises(KeyboardInterrupt), stop.heard():
        train(stop)
    assert Readers.ended == 1
    assert capfd.readouterr().err.count("Stopping") == 1
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
