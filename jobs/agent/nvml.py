"""NVIDIA's own library by ctypes, when it is there: the names of the GPUs and how busy they are."""

from __future__ import annotations

import ctypes
import os
from typing import Final

from dsched.jobs.agent.journal import note

LIBRARY: Final = "libnvidia-ml.so.1"
DEVICE: Final = "/dev/nvidiactl"  # without the driver there is nothing to load
NAME_MAX: Final = 96
MIB: Final = 1024 * 1024


class _Utilization(ctypes.Structure):
    _fields_ = (("gpu", ctypes.c_uint), ("memory", ctypes.c_uint))


class _Memory(ctypes.Structure):
    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


class NvmlError(OSError):
    """A call did not return 0."""


class Nvml:
    """Raises OSError from the constructor when the library or the driver does not answer."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(LIBRARY)
        self._call("nvmlInit_v2")
        count = ctypes.c_uint()
        self._call("nvmlDeviceGetCount_v2", ctypes.byref(count))
        self._devices = [self._device(index) for index in range(count.value)]

    def names(self) -> list[str]:
        return [self._name(device) for device in self._devices]

    def used(self) -> tuple[float, int] | None:
        """Mean utilisation, 0..1, and MiB in use on all of them; None when a card does not answer."""
        share, memory = 0.0, 0
        try:
            for device in self._devices:
                busy, room = _Utilization(), _Memory()
                self._call("nvmlDeviceGetUtilizationRates", device, ctypes.byref(busy))
                self._call("nvmlDeviceGetMemoryInfo", device, ctypes.byref(room))
                share += busy.gpu / 100
                memory += room.used
        except NvmlError as error:
            note("nvml.silent", error=str(error))
            return None
        return (round(share / len(self._devices), 4), memory // MIB) if self._devices else None

    def _device(self, index: int) -> ctypes.c_void_p:
        device = ctypes.c_void_p()
        self._call("nvmlDeviceGetHandleByIndex_v2", ctypes.c_uint(index), ctypes.byref(device))
        return device

    def _name(self, device: ctypes.c_void_p) -> str:
        name = ctypes.create_string_buffer(NAME_MAX)
        self._call("nvmlDeviceGetName", device, name, ctypes.c_uint(NAME_MAX))
        return name.value.decode("utf-8", "replace")

    def _call(self, function: str, *arguments: object) -> None:
        code = getattr(self._library, function)(*arguments)
        if code != 0:
            raise NvmlError(f"{function}: {code}")


def find() -> Nvml | None:
    """None where there is no NVIDIA driver, or it does not answer."""
    if not os.path.exists(DEVICE):
        return None
    try:
        return Nvml()
    except (OSError, AttributeError) as error:
        note("nvml.absent", error=str(error))
        return None
