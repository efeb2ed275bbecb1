"""Autocast around calls of layers: the same in backward as in forward, with weights cast before blocks use them."""

import contextlib

import torch


def state(device_type):
    """The dtype of autocast, or None: the part of the state around layers that decides how they compute."""
    return torch.get_autocast_dtype(device_type) if torch.is_autocast_enabled(device_type) else None


def of_attention(dtype, hidden_dtype):
    """The dtype of attention's operands under autocast to `dtype`, when hidden states have `hidden_dtype`."""
    return dtype if dtype == torch.bfloat16 else hidden_dtype


@contextlib.contextmanager
def around(device_type, dtype, parameters):
    """Within, autocast is on with `dtype` (None: off), and its cache already has the casts of `parameters`: blocks then share
    them and allocate none."""
    if dtype is None:
        with torch.autocast(device_type, enabled=False):
            yield
        return
    with torch.autocast(device_type, dtype=dtype), torch.enable_grad():
        for p in parameters:
            if p.dtype == torch.float32 and p.requires_grad and p.dim() == 2:
                torch.mm(p.new_empty(0, p.shape[0]), p)
            elif p.dtype == torch.float32 and p.requires_grad and p.dim() == 1:
                torch.nn.functional.linear(p.new_empty(0, 1), p.new_empty(p.shape[0], 1), p)
        yield
