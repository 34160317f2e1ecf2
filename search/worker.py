"""The other side of a worker process: measures what the driver sends until the driver is gone."""

import contextlib
import math
import multiprocessing
import multiprocessing.connection
import os
import pickle
import re
import signal
import sys
import threading
from multiprocessing.connection import Connection
from typing import Any

from gemnet.stopping import SIGNALS

from .evaluators import Evaluator
from .trial import DONE, FAILED, INFRA, Arch

READY, BROKEN, LOST = "ready", "broken", "lost"  # lost: failed:infra, and its process must not measure again
Reply = tuple[str, Any]  # (status, metrics or error text)
MEMORY = re.compile("DefaultCPUAllocator|(CUDA|HIP|MPS backend) out of memory")
# What plain RuntimeErrors say, and last the ConfigError of gemnet.devices. After most of them each later call of the
# process fails as well, and any of them may come from a kernel that an earlier candidate started.
DEVICE = re.compile(
    r"\b(CUDA|HIP)( driver| unknown)? error|\bcu(DNN|BLAS|SOLVER|SPARSE|FFT|RAND)( error|_STATUS_)"
    r"|Triton Error \[(CUDA|HIP)\]|NVML_SUCCESS|unable to find an engine|unable to find a valid cuDNN algorithm"
    r"|CUDA driver initialization failed|not compiled with CUDA|no NVIDIA driver|No CUDA GPUs are available"
    r"|torch sees no CUDA device",
    re.IGNORECASE,
)


def serve(pipe: Connection, evaluator_bytes: bytes) -> None:
    """Answers requests (a pickled architecture and seed) with `measure`'s reply, one at a time."""
    for number in SIGNALS:  # Ctrl-C reaches the whole group; the driver decides
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=end_with_driver, daemon=True).start()
    os.dup2(sys.stderr.fileno(), 1)  # stdout belongs to the driver's results
    try:
        evaluator: Evaluator = pickle.loads(evaluator_bytes)
    except Exception as error:  # noqa: BLE001 - reported to the driver, which raises
        pipe.send((BROKEN, describe(error)))
        return
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        pipe.send((READY, None))
        while True:
            request = pipe.recv()
            pipe.send(answer(evaluator, request))


def measure(evaluator: Evaluator, arch: Arch, seed: int) -> Reply:
    """The metrics of an architecture, or why there are none: by its own fault, for want of memory or of a device."""
    try:
        metrics = {name: float(value) for name, value in evaluator.evaluate(arch, seed).items()}
    except Exception as error:  # noqa: BLE001 - a candidate that fails is a result
        return _fault(error), describe(error)
    wrong = next((name for name, value in metrics.items() if not math.isfinite(value)), None)
    if wrong is not None:
        return FAILED, f"{wrong} is {metrics[wrong]}"
    return DONE, metrics


def describe(error: BaseException) -> str:
    """One line that says what was raised."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"[:500] if text else type(error).__name__


def answer(evaluator: Evaluator, request: bytes) -> Reply:
    """`measure`'s reply to a pickled architecture and seed, with one torch thread."""
    torch = sys.modules.get("torch")
    if torch:
        torch.set_num_threads(1)
    try:
        arch, seed = pickle.loads(request)
    except Exception as error:  # noqa: BLE001 - a candidate that cannot be read is a result
        return FAILED, describe(error)
    return measure(evaluator, arch, seed)


def _fault(error: Exception) -> str:
    """INFRA for want of memory, LOST when this process may have lost its device, else FAILED."""
    names, text = {kind.__name__ for kind in type(error).__mro__}, str(error)
    if names & {"MemoryError", "OutOfMemoryError"} or MEMORY.search(text):
        return INFRA
    return LOST if "AcceleratorError" in names or DEVICE.search(text) else FAILED


def end_with_driver() -> None:
    """Ends this process as soon as the driver is gone; for a thread of its own."""
    driver = multiprocessing.parent_process()
    if driver is not None:
        multiprocessing.connection.wait([driver.sentinel])
        os._exit(1)
