"""Whose fault a failed measurement is: the candidate's, or that of memory or a device, which may be lost for good."""

import pytest
import torch

from gemnet.devices import accelerator
from gemnet.errors import ConfigError, TrainingError
from gemnet.search.trial import FAILED, INFRA
from gemnet.search.worker import LOST, measure

DEVICE_ERRORS = [
    RuntimeError("CUDA error: an illegal memory access was encountered\nCUDA kernel errors might be ..."),
    RuntimeError("CUDA error: out of memory"),  # of the driver, not of torch's own memory pool
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("CUDA driver error: unknown error"),
    RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
    RuntimeError("cuFFT error: CUFFT_INTERNAL_ERROR"),
    RuntimeError("cusolver error: CUSOLVER_STATUS_INTERNAL_ERROR, when calling `cusolverDnCreate(handle)`"),
    RuntimeError("GET was unable to find an engine to execute this computation"),
    RuntimeError("Triton Error [CUDA]: misaligned address"),
    RuntimeError("No CUDA GPUs are available"),
    RuntimeError("CUDA unknown error - this may be due to an incorrectly set up environment"),
    RuntimeError("HIP error: invalid device function"),
]
OWN_ERRORS = [
    ValueError("no net of 2"),
    TrainingError("the loss is nan at epoch 0"),
    RuntimeError("mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)"),
    RuntimeError("Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu!"),
    RuntimeError("\"conv\" not implemented for 'Half' on CUDA"),
]
MEMORY_ERRORS = [
    MemoryError(),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory"),
    RuntimeError("MPS backend out of memory (MPS allocated: 5.05 GB)"),
]
if hasattr(torch, "AcceleratorError"):
    DEVICE_ERRORS.append(torch.AcceleratorError("its words are of no account"))


class Raises:
    """An evaluator that raises."""

    fingerprint = "raises"

    def __init__(self, error):
        self.error = error

    def evaluate(self, arch, seed):
        raise self.error


@pytest.mark.parametrize(
    ("error", "status"),
    [
        *((error, LOST) for error in DEVICE_ERRORS),
        *((error, INFRA) for error in MEMORY_ERRORS),
        *((error, FAILED) for error in OWN_ERRORS),
    ],
    ids=lambda value: f"{type(value).__name__} {value}"[:60] if isinstance(value, Exception) else value,
)
def test_faults_of_memory_and_devices_are_not_the_candidates(error, status):
    found, text = measure(Raises(error), None, 0)
    assert (found, text.split(":")[0]) == (status, type(error).__name__)


def test_a_gpu_that_has_gone_is_not_the_candidates_fault(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError) as raised:
        accelerator("cuda")
    assert measure(Raises(raised.value), None, 0)[0] == LOST
