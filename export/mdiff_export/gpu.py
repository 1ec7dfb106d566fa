"""A TensorRT engine, run once on this machine's GPU with nothing but TensorRT and the GPU's driver.

It was written from the documentation of both and has not run on a GPU yet.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mdiff_core import ModelContract, PermanentError
from mdiff_export.engine import collecting_logger, tensorrt
from mdiff_export.parity import Answers
from mdiff_export.wire import Batch, outputs

_LIBRARY = "libcuda.so.1"  # it comes with the driver, unlike the CUDA runtime


def gpu_is_present() -> bool:
    """Whether a driver is installed and finds a GPU."""
    try:
        library = ctypes.CDLL(_LIBRARY)
    except OSError:
        return False
    count = ctypes.c_int()
    return library.cuInit(0) == 0 and library.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0


def on_gpu(plan: Path, contract: ModelContract) -> Answers:
    """What the engine ``plan``, which was built here, answers on the first GPU.

    Raises:
        PermanentError: TensorRT or the driver refuses, now or when a batch is asked about.
    """
    trt = tensorrt()
    log = collecting_logger(trt)
    runtime = trt.Runtime(log)
    runtime.engine_host_code_allowed = True  # an engine for several versions carries code, and this one is our own
    engine = runtime.deserialize_cuda_engine(plan.read_bytes())
    context = engine and engine.create_execution_context()
    if not context:
        raise PermanentError(f"TensorRT {trt.__version__} cannot run the engine of {contract.name} here ({log.last})")
    driver = _Driver()

    def answers(batch: Batch) -> Sequence[npt.NDArray[Any]]:
        found = [np.empty((len(batch["x"]), *tensor.dims), tensor.dtype) for tensor in outputs(contract)]
        with ExitStack() as memory:
            for name, value in batch.items():
                context.set_input_shape(name, value.shape)
                context.set_tensor_address(name, memory.enter_context(driver.copy_of(value)))
            places = [memory.enter_context(driver.memory(value.nbytes)) for value in found]
            for tensor, place in zip(outputs(contract), places, strict=True):
                context.set_tensor_address(tensor.name, place)
            if not context.execute_async_v3(0):
                raise PermanentError(f"TensorRT {trt.__version__} cannot run {contract.name} here ({log.last})")
            driver("cuCtxSynchronize")
            for value, place in zip(found, places, strict=True):
                driver("cuMemcpyDtoH_v2", _host(value), ctypes.c_uint64(place), ctypes.c_size_t(value.nbytes))
        return found

    return answers


class _Driver:
    """The CUDA driver on the first GPU; called with the name of one of its functions and the arguments."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(_LIBRARY)
        device, context = ctypes.c_int(), ctypes.c_void_p()
        self("cuInit", 0)
        self("cuDeviceGet", ctypes.byref(device), 0)
        # The one that TensorRT computes in.
        self("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
        self("cuCtxSetCurrent", context)

    def __call__(self, function: str, *arguments: object) -> None:
        status = getattr(self._library, function)(*arguments)
        if status:
            raise PermanentError(f"the driver of the GPU refuses {function} (CUDA error {status})")

    @contextmanager
    def memory(self, size: int) -> Iterator[int]:
        """The address of ``size`` bytes on the GPU."""
        address = ctypes.c_uint64()
        self("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(size))
        try:
            yield address.value
        finally:
            self("cuMemFree_v2", address)

    @contextmanager
    def copy_of(self, value: npt.NDArray[Any]) -> Iterator[int]:
        """The address of a copy on the GPU."""
        value = np.ascontiguousarray(value)
        with self.memory(value.nbytes) as address:
            self("cuMemcpyHtoD_v2", ctypes.c_uint64(address), _host(value), ctypes.c_size_t(value.nbytes))
            yield address


def _host(value: npt.NDArray[Any]) -> ctypes.c_void_p:
    return ctypes.c_void_p(value.ctypes.data)
