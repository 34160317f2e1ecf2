"""Measures architectures on a Ray cluster; nodes may come and go without losing a trial.

The evaluator, with its data if it can hand them over, is placed in Ray's object store once; every
process of the cluster takes it from there once. The machines need this package, but none of the
study's files.
"""

import contextlib
import hashlib
import importlib
import logging
import os
import pickle
import signal
import threading
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from typing import Any

from gemnet.errors import EvaluationError, UsageError
from gemnet.stopping import Stop

from .evaluators import Evaluator
from .threads import VARIABLES
from .trial import INFRA
from .worker import BROKEN, LOST, Reply, answer, describe
from .workers import Outcome, Task, outcome_of

POLL_S = 1.0
GRACE_S = 120.0
ROOM_WAIT_S = 600.0
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}  # unless set by the user


class RayPool:
    """Tasks of a Ray cluster: the one RAY_ADDRESS names, else one that runs here, else one started for the while.

    Args:
        evaluator: placed in the object store once, with what its `shared()` gives, if it has one.
        cpus, gpus: what Ray keeps free for one trial; shares of a GPU put several trials on it.
        retries: how often a trial is tried again after its process or node died, or ran out of time, memory or a GPU.
        time_limit_s: the longest a trial may take once a process has begun it.
        stop: asked before a task is begun.

    Raises:
        UsageError: ray is not installed.
    """

    def __init__(
        self, evaluator: Evaluator, cpus: float, gpus: float, retries: int, time_limit_s: float | None, stop: Stop
    ) -> None:
        try:
            self._ray: Any = importlib.import_module("ray")
        except ImportError:
            raise UsageError("--workers ray needs Ray: pip install 'gemnet[ray]'") from None
        self._evaluator, self._cpus, self._gpus = evaluator, cpus, gpus
        self._retries, self._time_limit_s, self._stop = retries, time_limit_s, stop
        self._sent: tuple[list[Any], str] | None = None
        self._started = False

    def run(self, tasks: Iterable[Task]) -> Iterator[Outcome]:
        """Outcomes in the order in which they arrive; when a stop is requested, those that run then are the last.

        Raises:
            EvaluationError: the cluster cannot be reached, has no room, or cannot load the evaluator.
        """
        todo, attempts = deque(tasks), Counter[str]()
        running: dict[Any, tuple[Task, float]] = {}
        try:
            while todo or running:
                if self._stop.requested:
                    todo.clear()
                self._fill(todo, running)
                for task, reply in self._replies(running):
                    attempts[task.key] += 1
                    if reply[0] == INFRA and attempts[task.key] <= self._retries and not self._stop.requested:
                        todo.appendleft(task)
                    else:
                        yield outcome_of(task, reply, attempts[task.key])
        finally:
            for reference in running:
                self._cancel(reference)

    def close(self) -> None:
        """Leaves the cluster."""
        if self._started:
            self._ray.shutdown()
            self._started, self._sent = False, None

    def _fill(self, todo: deque[Task], running: dict[Any, tuple[Task, float]]) -> None:
        """Hands out as many tasks as the cluster has room for; waits for room when it has none at all."""
        if not todo:
            return
        where, name = self._placed()
        end = time.monotonic() + ROOM_WAIT_S
        while not self._room() and not running:
            if time.monotonic() > end:
                needs = f"{self._cpus:g} CPUs and {self._gpus:g} GPUs"
                raise EvaluationError(f"the Ray cluster has no room for a trial of {needs}")
            time.sleep(POLL_S)
        on_gpu = self._gpus > 0 or (getattr(self._evaluator, "device", None) or "cpu") != "cpu"
        calls = 1 if on_gpu else 0  # of one process, 0 for any number: no trial inherits a GPU that another has lost
        options = {"num_cpus": self._cpus, "num_gpus": self._gpus, "max_retries": 0, "max_calls": calls}
        remote = self._ray.remote(**options)(measure_remotely)
        while todo and len(running) < self._room():
            task = todo.popleft()
            reference = remote.remote(where, name, pickle.dumps((task.arch, task.seed)), self._time_limit_s)
            running[reference] = task, time.monotonic()

    def _replies(self, running: dict[Any, tuple[Task, float]]) -> list[tuple[Task, Reply]]:
        """What has been answered, has died or is late, taken out of `running`."""
        if not running:
            return []
        ready, _ = self._ray.wait(list(running), num_returns=1, timeout=POLL_S)
        found = [(running[reference][0], self._reply(reference, running.pop(reference)[1])) for reference in ready]
        if self._time_limit_s is not None:  # a process that hangs so that it cannot even end itself
            end = time.monotonic() - self._time_limit_s - GRACE_S
            for reference in [ref for ref, (_, since) in running.items() if since < end]:
                self._cancel(reference)
                found.append((running.pop(reference)[0], (INFRA, self._late())))
        return found

    def _late(self) -> str:
        return f"time limit of {self._time_limit_s:g} s"

    def _reply(self, reference: Any, since: float) -> Reply:
        try:
            reply: Reply = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:  # the process or its node died, or the node ran out of memory
            late = self._time_limit_s is not None and time.monotonic() - since >= self._time_limit_s
            return INFRA, self._late() if late else f"its worker died ({describe(error):.200})"
        if reply[0] == BROKEN:
            raise EvaluationError(f"a worker cannot load the evaluator: {reply[1]}")
        return (INFRA, reply[1]) if reply[0] == LOST else reply

    def _cancel(self, reference: Any) -> None:
        with contextlib.suppress(self._ray.exceptions.RayError):
            self._ray.cancel(reference, force=True)

    def _room(self) -> int:
        """How many trials the cluster can run at a time, as it is now."""
        there = self._ray.cluster_resources()
        room = there.get("CPU", 0.0) / self._cpus
        return int(min(room, there.get("GPU", 0.0) / self._gpus) if self._gpus else room)

    def _placed(self) -> tuple[list[Any], str]:
        """The evaluator in the object store (in a list, so that Ray does not fetch it for every task), and its name."""
        if self._sent is None:
            self._connect()
            shared = getattr(self._evaluator, "shared", None)
            try:
                content = pickle.dumps((self._evaluator, shared() if callable(shared) else None))
            except Exception as error:  # noqa: BLE001 - pickle raises many kinds
                raise EvaluationError(f"the evaluator cannot be sent to workers: {describe(error)}") from None
            self._sent = [self._ray.put(content)], hashlib.sha256(content).hexdigest()
        return self._sent

    def _connect(self) -> None:
        if self._ray.is_initialized():
            return
        for name, value in QUIET.items():
            os.environ.setdefault(name, value)
        here = threading.current_thread() is threading.main_thread()
        before = signal.getsignal(signal.SIGTERM)
        try:
            self._ray.init(log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise EvaluationError(f"cannot join the Ray cluster: {describe(error)}") from None
        finally:
            if here:
                signal.signal(signal.SIGTERM, before)  # Ray's own ends the driver without saving
        self._started = True


_LOADED: dict[str, Evaluator] = {}  # of this process of the cluster, by name


def measure_remotely(where: list[Any], name: str, request: bytes, time_limit_s: float | None) -> Reply:
    """A worker's answer to a request, in a process of the cluster, which ends when it takes too long."""
    os.environ.update(dict.fromkeys(VARIABLES, "1"))
    if name not in _LOADED:
        import ray

        try:
            evaluator, shared = pickle.loads(ray.get(where[0]))
            if shared is not None:
                evaluator.adopt(shared)
        except Exception as error:  # noqa: BLE001 - reported to the driver, which raises
            return BROKEN, describe(error)
        _LOADED[name] = evaluator
    with _ending_after(time_limit_s):
        return answer(_LOADED[name], request)


@contextlib.contextmanager
def _ending_after(time_limit_s: float | None) -> Iterator[None]:
    """Within it this process has so long."""
    if time_limit_s is None:
        yield
        return
    timer = threading.Timer(time_limit_s, os._exit, (1,))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
