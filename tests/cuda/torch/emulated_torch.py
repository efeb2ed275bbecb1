"""Makes the process one with the emulated GPU of this folder: import it before torch is imported. What Python's torch.cuda asks
of a LibTorch for CUDA is answered here, since this one is for the CPU."""

import contextlib
import ctypes
import os
import sys
import types

assert "torch" not in sys.modules, "LibTorch asks for its GPU library once, when torch is imported"
_runtime = ctypes.CDLL(os.environ["MEMO_EMULATED_LIBRARY"], mode=ctypes.RTLD_GLOBAL)
_runtime.memo_emulated_calls.restype = ctypes.c_int64


def calls(function):
    """How often this function of the runtime was called."""
    return _runtime.memo_emulated_calls(function.encode())


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


class Event(torch.Event):
    """torch.cuda.Event, as torch.Event has it."""

    def __new__(cls, enable_timing=False, blocking=False, interprocess=False, **given):
        return super().__new__(cls, device="cuda", enable_timing=enable_timing)


@contextlib.contextmanager
def _on_stream(stream):
    if stream is None:
        yield
        return
    with stream:
        yield


def _set_state(state, device="cuda"):
    torch.cuda.default_generators[_index(device)].set_state(state)


def _seed_all(seed):
    for generator in _cuda.default_generators:
        generator.manual_seed(seed)


def _storage_to(self, *, device, non_blocking=False):
    """A storage of the device with the same bytes."""
    there = torch.empty(self.nbytes(), dtype=torch.uint8, device=device)
    there.copy_(torch.empty(0, dtype=torch.uint8, device=self.device).set_(self), non_blocking=non_blocking)
    return there.untyped_storage()


def _mem_get_info(device=None):
    """Free and total bytes, as the runtime tells."""
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    with _cuda.device(_index(device)):
        _runtime.cudaMemGetInfo(ctypes.byref(free), ctypes.byref(total))
    return free.value, total.value


def _properties(device=None):
    return types.SimpleNamespace(name=_cuda.get_device_name(device), major=9, minor=0, multi_processor_count=132,
                                 total_memory=_mem_get_info(device)[1])


def _of_index(function):
    return lambda device=None: function(_index(device))


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
_cuda.stream = _on_stream
_cuda.Event = Event
_cuda.empty_cache = torch.accelerator.empty_cache
_cuda.is_bf16_supported = lambda including_emulation=True: True
_cuda.get_device_capability = lambda device=None: (9, 0)
_cuda.get_device_name = lambda device=None: "an emulated GPU"
_cuda.get_device_properties = _properties
_cuda.mem_get_info = _mem_get_info
for _name in ("memory_stats", "memory_allocated", "max_memory_allocated", "memory_reserved", "max_memory_reserved",
              "reset_peak_memory_stats"):
    setattr(_cuda, _name, _of_index(getattr(torch.accelerator, _name)))
_cuda.manual_seed_all = _cuda.random.manual_seed_all = _seed_all
_cuda.manual_seed = _cuda.random.manual_seed = lambda seed: _cuda.default_generators[_index(None)].manual_seed(seed)
_cuda.get_rng_state = lambda device="cuda": _cuda.default_generators[_index(device)].get_state()
_cuda.set_rng_state = _set_state
_cuda.get_rng_state_all = lambda: [generator.get_state() for generator in _cuda.default_generators]
_cuda.set_rng_state_all = lambda states: [_set_state(state, i) for i, state in enumerate(states)]
torch.UntypedStorage.to = _storage_to
_c._cuda_getDevice = _cuda.current_device
_c._cuda_setDevice = _exchange
_c._cuda_exchangeDevice = _exchange
_c._cuda_maybeExchangeDevice = _exchange
