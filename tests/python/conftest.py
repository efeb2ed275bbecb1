"""The Python package as the build has it (build/python); each process gets one thread: the models are tiny."""

import os
import sys
from pathlib import Path

import pytest
import torch

_package = os.environ.get("MEMO_PACKAGE") or str(Path(__file__).parents[2] / "build" / "python")  # another build's
sys.path[:0] = [_package, str(Path(__file__).parent)]
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"  # of processes that tests start


@pytest.fixture
def ids():
    """[1, tokens] of the vocabulary of families.py; not a whole number of blocks."""
    return torch.randint(1, 97, (1, 377), generator=torch.Generator().manual_seed(2))


@pytest.fixture(autouse=True)
def autocast_ends_with_its_test():
    yield
    left, _ = torch.is_autocast_enabled("cpu"), torch.set_autocast_enabled("cpu", False)
    assert not left, "autocast stays on"
