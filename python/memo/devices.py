"""The device of a model's layers: the CPU, or a GPU, for which autograd runs backward on a thread of its own."""

import functools

import torch

from memo import _core
from memo.errors import UnsupportedModel


def of(names, layers) -> torch.device:
    """The device of all layers' parameters; refuses a device on which they cannot run, by the parameter's name."""
    found = [(f"{layer_name}: {name}", parameter.device) for layer_name, layer in zip(names, layers)
             for name, parameter in layer.named_parameters()]
    first, device = found[0] if found else ("", torch.device("cpu"))
    for other, its in found:
        if its != device:
            raise UnsupportedModel(f"{other} is on {its}, {first} on {device}; all layers run on one device")
    try:
        _core.open_device(device)
    except (ValueError, RuntimeError) as error:
        raise UnsupportedModel(f"{first} is on {device}; {error}") from None
    return device


@functools.lru_cache(maxsize=64)
def _refusal(device_type, dtype, softcap, head_dim):
    return _core.attention_refusal(torch.device(device_type), dtype, softcap, head_dim)


def check_attention(name, device_type, dtype, softcap, head_dim):
    """Refuses attention for which the device has no kernel. dtype: that of its operands."""
    if refusal := _refusal(device_type, dtype, softcap or 0.0, head_dim):
        what = "a GPU" if device_type == "cuda" else "the CPU"
        hint = (": attach and train within torch.autocast(\"cuda\", torch.bfloat16), or model.to(torch.bfloat16)"
                if device_type == "cuda" and dtype != torch.bfloat16 else "")
        raise UnsupportedModel(f"{name}: no kernel of {what} has attention for {refusal}{hint}")


def same_random(device):
    """Within, random numbers may be drawn; afterwards the generators are in the same state as before."""
    return torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])


class _Backward(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, work):
        ctx.work = work
        return x.clone()

    @staticmethod
    def backward(ctx, d):
        ctx.work()
        return d, None


def in_backward(device, work):
    """Runs `work` on the thread on which autograd runs backward for this device, and returns its result. On a GPU this is not
    the calling thread, which would not see backward's allocations."""
    result = []
    with torch.enable_grad():
        leaf = torch.zeros((), device=device, requires_grad=True)
        _Backward.apply(leaf, lambda: result.append(work())).backward()
    return result[0]
