"""Makes the process one with the emulated GPU of this folder: import it before torch is imported. What Python's torch.cuda asks
of a LibTorch for CUDA is answered here, since this one is for the CPU."""

import ctypes
import os
import sys

assert "torch" not in sys.modules, "LibTorch asks for its GPU library once, when torch is imported"
ctypes.CDLL(os.environ["MEMO_EMULATED_LIBRARY"], mode=ctypes.RTLD_GLOBAL)

import torch  # noqa: E402

_c = torch._C
_cuda = torch.cuda
_count = int(os.environ.get("MEMO_EMULATED_DEVICES") or 1)


def _index(device):
    if device is None:
        return _cuda.current_device()
    if isinstance(device, int):
        return device
    index = torch.device(device).index
    return _cuda.current_device() if index is None else index


def _exchange(device):
    before = _cuda.current_device()
    if device >= 0:
        torch.accelerator.set_device_index(device)
    return before


class _Device(_cuda.device):
    def __enter__(self):
        self.prev_idx = _exchange(self.idx)

    def __exit__(self, *_):
        _exchange(self.prev_idx)
        return False


class Stream(torch.Stream):
    """torch.cuda.Stream, as torch.Stream has it."""

    def __new__(cls, device=None, priority=0, **given):
        return super().__new__(cls, device=torch.device("cuda", _index(device)), priority=priority)


def _set_state(state, device="cuda"):
    torch.cuda.default_generators[_index(device)].set_state(state)


_cuda.default_generators = tuple(torch.Generator(device=f"cuda:{i}") for i in range(_count))
_cuda._lazy_init = lambda: None
_cuda._initialized = True
_cuda.is_available = lambda: _count > 0
_cuda.is_initialized = lambda: True
_cuda.device_count = lambda: _count
_cuda.current_device = torch.accelerator.current_device_index
_cuda.set_device = lambda device: _exchange(_index(device)) and None
_cuda.device = _Device
_cuda.synchronize = lambda device=None: torch.accelerator.synchronize(_index(device))
_cuda.current_stream = lambda device=None: torch.accelerator.current_stream(_index(device))
_cuda.Stream = Stream
_cuda.stream = lambda stream: stream
_cuda.empty_cache = torch.accelerator.empty_cache
_cuda.is_bf16_supported = lambda including_emulation=True: True
_cuda.get_device_capability = lambda device=None: (9, 0)
_cuda.get_device_name = lambda device=None: "an emulated GPU"
_cuda.get_rng_state = lambda device="cuda": _cuda.default_generators[_index(device)].get_state()
_cuda.set_rng_state = _set_state
_c._cuda_getDevice = _cuda.current_device
_c._cuda_setDevice = _exchange
_c._cuda_exchangeDevice = _exchange
_c._cuda_maybeExchangeDevice = _exchange
