"""Runs a Python program on the emulated device: python on_emulated.py (-m MODULE | SCRIPT) ARGUMENT... `torch.cuda` is then
that of tests/cuda/torch/emulated_torch.py."""

import os
import runpy
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
os.environ.setdefault("MEMO_EMULATED_LIBRARY", str(ROOT / "build/tests/libtorch_emulated.so"))
sys.path.insert(0, str(ROOT / "tests/cuda/torch"))

import emulated_torch  # noqa: E402, F401

if sys.argv[1] == "-m":
    del sys.argv[:2]
    sys.path[0] = os.getcwd()
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
else:
    del sys.argv[0]
    sys.path[0] = str(Path(sys.argv[0]).resolve().parent)
    runpy.run_path(sys.argv[0], run_name="__main__")
