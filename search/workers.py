"""Measures architectures in parallel, in local processes that may die without losing a trial."""

import multiprocessing
import multiprocessing.connection
import pickle
import signal
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess

from gemnet.errors import EvaluationError
from gemnet.stopping import SIGNALS, Stop

from .evaluators import Evaluator
from .threads import environment_threads, torch_threads, visible_device
from .trial import DONE, INFRA, Arch
from .worker import BROKEN, LOST, READY, Reply, describe, measure, serve

STILLBORN_LIMIT = 3


@dataclass(frozen=True)
class Task:
    """One measurement to make."""

    key: str
    arch: Arch
    seed: int
    repeat: int = 0


@dataclass(frozen=True)
class Outcome:
    """What came of a task: `metrics` when the status is `"done"`, else `error`."""

    task: Task
    status: str
    metrics: dict[str, float]
    error: str | None
    attempts: int


class Pool:
    """Workers that start when there is something to measure and stay until `close`.

    Args:
        evaluator: pickled once, sent to every worker once.
        workers: processes, each with one torch thread; 0 measures in this process.
        retries: how often a trial is tried again after its worker died, lost its GPU or ran out of time or memory.
        time_limit_s: the longest a trial may take; not kept with `workers=0`.
        devices: CUDA devices; each worker sees one of them, with as few others as can be.
        stop: asked before a task is begun.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        workers: int,
        retries: int = 2,
        time_limit_s: float | None = None,
        devices: Sequence[str] = (),
        stop: Stop | None = None,
    ) -> None:
        self._evaluator, self._limit, self._devices = evaluator, workers, tuple(devices)
        self._retries, self._time_limit_s, self._stop = retries, time_limit_s, stop or Stop()
        self._workers: list[_Worker] = []
        self._lost: Counter[str | None] = Counter()  # how often each device was, since it last measured something
        self._bytes: bytes | None = None
        self._stillborn = 0

    def run(self, tasks: Iterable[Task]) -> Iterator[Outcome]:
        """Outcomes in the order in which they arrive; tasks are handed out in the order given.

        When a stop is requested, those of the tasks that run then are the last.

        Raises:
            EvaluationError: workers cannot be started, or cannot load the evaluator; this process lost its GPU.
        """
        return self._run_workers(deque(tasks)) if self._limit else self._run_here(tasks)

    def close(self) -> None:
        """Ends all workers now."""
        while self._workers:
            self._drop(self._workers[0])

    def _run_here(self, tasks: Iterable[Task]) -> Iterator[Outcome]:
        for task in tasks:
            if self._stop.requested:
                return
            attempts, reply = 0, (INFRA, "")
            while reply[0] == INFRA and attempts <= self._retries:
                with torch_threads(1):
                    reply = measure(self._evaluator, task.arch, task.seed)
                attempts += 1
            if reply[0] == LOST:
                raise EvaluationError(
                    f"this process cannot go on with its GPU ({reply[1]}); resume makes this trial again, "
                    "with --workers 1 or more in a process of its own"
                )
            yield outcome_of(task, reply, attempts)

    def _run_workers(self, todo: deque[Task]) -> Iterator[Outcome]:
        attempts: Counter[str] = Counter()
        try:
            while todo or any(worker.task for worker in self._workers):
                if self._stop.requested:
                    todo.clear()
                    if not any(worker.task for worker in self._workers):
                        return
                self._fill(todo)
                for worker in self._wait():
                    task, reply = worker.task, self._reply(worker)
                    if task is None or reply is None:
                        continue
                    attempts[task.key] += 1
                    if reply[0] == INFRA and attempts[task.key] <= self._retries:
                        todo.appendleft(task)
                    else:
                        yield outcome_of(task, reply, attempts[task.key])
        finally:
            for worker in [worker for worker in self._workers if worker.task]:
                self._drop(worker)

    def _fill(self, todo: deque[Task]) -> None:
        for worker in [worker for worker in self._workers if not worker.process.is_alive() and not worker.task]:
            if worker.ready:  # died while idle; one that dies while starting is counted in `_reply`
                self._drop(worker)
        for worker in self._workers:
            if todo and worker.ready and not worker.task:
                worker.send(todo.popleft(), self._time_limit_s)
        starting = sum(not worker.ready for worker in self._workers)
        for _ in range(min(self._limit - len(self._workers), len(todo) - starting)):
            if self._bytes is None:
                self._bytes = _pickled(self._evaluator)
            self._workers.append(_Worker(self._bytes, self._free_device()))

    def _free_device(self) -> str | None:
        """The device that fewest workers have, one that others have lost counting as taken as often."""
        taken = Counter(worker.device for worker in self._workers) + self._lost
        return min(self._devices, key=lambda device: taken[device], default=None)

    def _wait(self) -> list["_Worker"]:
        """Workers that answered, died, or ran out of time."""
        handles: list[Connection | int] = []
        for worker in self._workers:
            handles += [worker.pipe, worker.process.sentinel]
        ends = [worker.deadline for worker in self._workers if worker.deadline is not None]
        timeout = max(0.0, min(ends) - time.monotonic()) if ends else None
        ready = multiprocessing.connection.wait(handles, timeout)
        return [
            worker
            for worker in self._workers
            if worker.pipe in ready or worker.process.sentinel in ready or worker.late()
        ]

    def _reply(self, worker: "_Worker") -> Reply | None:
        """What a worker answered to its task; None when it only got ready or died with nothing to do."""
        try:
            reply: Reply | None = worker.pipe.recv() if worker.pipe.poll() else None
        except (EOFError, OSError):
            reply = None
        if reply is not None and reply[0] == READY:
            worker.ready, self._stillborn = True, 0
            return None
        if reply is not None and reply[0] == BROKEN:
            raise EvaluationError(f"a worker cannot load the evaluator: {reply[1]}")
        if reply is not None:
            worker.finish()
            if reply[0] == LOST:
                self._drop(worker)  # before it is given another trial; `_fill` starts the next one
                self._lost[worker.device] += 1
                return INFRA, reply[1]
            if reply[0] == DONE:
                del self._lost[worker.device]
            return reply
        late = worker.late()
        code, was_ready = self._drop(worker), worker.ready
        if not was_ready:
            self._stillborn += 1
            if self._stillborn >= STILLBORN_LIMIT:
                raise EvaluationError(f"{self._stillborn} workers died while starting ({ending(code)}); "
                                      "a script that starts workers needs `if __name__ == '__main__':`")
            return None
        return INFRA, f"time limit of {self._time_limit_s:g} s" if late else f"its worker died ({ending(code)})"

    def _drop(self, worker: "_Worker") -> int | None:
        self._workers.remove(worker)
        return worker.end()


class _Worker:
    """A process, the pipe to it, the CUDA device it sees (None for all) and the task it has."""

    def __init__(self, evaluator_bytes: bytes, device: str | None) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process: SpawnProcess = context.Process(target=serve, args=(theirs, evaluator_bytes), daemon=True)
        with environment_threads(1), visible_device(device), interrupts_blocked():
            self.process.start()
        theirs.close()  # so that its end closes with the process
        self.device = device
        self.ready = False
        self.task: Task | None = None
        self.deadline: float | None = None

    def send(self, task: Task, time_limit_s: float | None) -> None:
        self.task = task
        self.deadline = None if time_limit_s is None else time.monotonic() + time_limit_s
        try:
            self.pipe.send(pickle.dumps((task.arch, task.seed)))
        except OSError:
            return  # it died just now; its sentinel says so

    def finish(self) -> None:
        self.task = self.deadline = None

    def late(self) -> bool:
        return self.deadline is not None and time.monotonic() >= self.deadline

    def end(self) -> int | None:
        if self.process.is_alive():
            self.process.kill()
        self.process.join()
        code = self.process.exitcode
        self.pipe.close()
        self.process.close()
        return code


@contextmanager
def interrupts_blocked() -> Iterator[None]:
    """Processes started within it never see Ctrl-C or SIGTERM: the driver ends them."""
    resource_tracker.ensure_running()  # its start would unblock the signals again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _pickled(evaluator: Evaluator) -> bytes:
    try:
        return pickle.dumps(evaluator)
    except Exception as error:  # noqa: BLE001 - pickle raises many kinds
        raise EvaluationError(f"the evaluator cannot be sent to workers: {describe(error)}") from None


def outcome_of(task: Task, reply: Reply, attempts: int) -> Outcome:
    """What came of a task, from a worker's reply."""
    status, value = reply
    metrics, error = (value, None) if status == DONE else ({}, str(value))
    return Outcome(task, status, metrics, error, attempts)


def ending(code: int | None) -> str:
    """How a process ended, for a message."""
    if code is not None and code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return f"exit code {code}"
