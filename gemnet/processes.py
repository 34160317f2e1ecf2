"""What the processes of one training decide together."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from .errors import CheckpointError
from .lock import Lock

ASK_EVERY_S = 2.0  # seconds from one question of several processes to the next


def total(runner: Accelerator, *values: float) -> list[float]:
    """Each number, added up over the processes."""
    if runner.num_processes == 1:
        return list(values)
    mine = torch.tensor(values, dtype=torch.float32, device=runner.device)
    added: torch.Tensor = runner.reduce(mine, "sum")
    return added.tolist()


@contextmanager
def alone(folder: Path, runner: Accelerator) -> Iterator[None]:
    """A block in which no other training runs in the folder: the main process locks it for all.

    Raises:
        CheckpointError, in all processes: another holds the lock, or the folder cannot be written.
    """
    refusal, lock = [""], None
    if runner.is_main_process:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = Lock(folder / ".lock", CheckpointError)
        except OSError as error:
            refusal = [f"{folder} cannot be written ({error.strerror})"]
        except CheckpointError as error:
            refusal = [str(error)]
    broadcast_object_list(refusal)
    if refusal[0]:
        raise CheckpointError(refusal[0])
    try:
        yield
    finally:
        if lock is not None:
            lock.release()


class Questions:
    """Sums over the processes, after the same steps in all of them: about every `ASK_EVERY_S` seconds.

    Each answer waits for the slowest process; a process alone answers itself after each step.
    """

    def __init__(self, runner: Accelerator) -> None:
        self.runner = runner
        self.begin(0)

    def begin(self, step: int) -> None:
        """A training begins, or goes on, after a step."""
        self.asked, self.asked_step, self.ask_step = time.perf_counter(), step, 0

    def ask(self, step: int, *values: float) -> list[float] | None:
        """Each number, added up over the processes; None after a step that none asks after."""
        if self.runner.num_processes > 1 and step < self.ask_step:
            return None
        now, span = time.perf_counter(), max(1, step - self.asked_step)
        *answer, seconds = total(self.runner, *values, now - self.asked)
        pace = max(seconds / self.runner.num_processes, 1e-3) / span  # the same in all processes
        wait = max(1, min(int(ASK_EVERY_S / pace), 2 * span))  # steps; later ones may be slower
        self.asked, self.asked_step, self.ask_step = now, step, step + wait
        return answer
