"""The environment of a process with the emulated GPU (tests/cuda/torch), for tests that start one, and what it tells there."""

import collections
import ctypes
import os
from pathlib import Path

HERE = Path(__file__).parent
BUILD = HERE.parents[1] / "build"
# Where all tests must run, one that was not built fails.
BUILT = bool(list((BUILD / "python_emulated").glob("memo/_core.*.so"))) or "MEMO_TESTS_WHOLE" in os.environ


def environment(devices=1, pace="late"):
    """Of a process that imports emulated_torch before torch."""
    paths = [str(BUILD / "python_emulated"), str(HERE), str(HERE.parent / "cuda" / "torch")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths), "MEMO_PACKAGE": paths[0], "MEMO_EMULATED_PACE": pace,
                         "MEMO_EMULATED_DEVICES": str(devices), "OMP_NUM_THREADS": "1",
                         "MEMO_EMULATED_LIBRARY": str(BUILD / "tests" / "libtorch_emulated.so")}


def waits():
    """How often the host of this process has waited for the device, by what made it wait."""
    tell = ctypes.CDLL(os.environ["MEMO_EMULATED_LIBRARY"]).memo_emulated_waits
    tell.restype = ctypes.c_char_p
    lines = (line.split(" ", 1) for line in tell().decode().splitlines())
    return collections.Counter({what: int(count) for count, what in lines})
