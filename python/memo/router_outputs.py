"""What transformers' hooks collect from inside of layers while a model runs: the router logits of a mixture of experts.
Of a layer that runs by blocks they become outputs of its own, with gradients."""

import contextlib
import contextvars
import sys

from memo.errors import UnsupportedModel

_POSSIBLE = ("router_logits",)
_OUTSIDE = ("hidden_states",)  # collected where a layer ends, as ever


_NOTHING = contextvars.ContextVar("nothing is collected", default=None)


def _variable():
    hooks = sys.modules.get("transformers.utils.output_capturing")
    return hooks._active_collector.context_var if hooks else _NOTHING


def wanted() -> tuple:
    """The keys that are collected now from inside of layers."""
    collector = _variable().get()
    keys = [key for key, value in (collector or {}).items() if isinstance(value, list) and key not in _OUTSIDE]
    for key in keys:
        if key not in _POSSIBLE:
            raise UnsupportedModel(f"output_{key} cannot be had from layers that run by token blocks")
    return tuple(keys)


@contextlib.contextmanager
def nothing():
    """Within, what layers give is collected by nobody."""
    variable = _variable()
    before = variable.set(None)
    try:
        yield
    finally:
        variable.reset(before)


def apart(context, keys) -> dict:
    """Lists of its own for what a block gives, in `context`."""
    lists = {key: [] for key in keys}
    context.run(_variable().set, lists or None)
    return lists


def rows(layer_name, tensor, tokens):
    if tensor.dim() != 2 or tensor.shape[0] != tokens:
        raise UnsupportedModel(f"{layer_name} gives the rest of the model a tensor of shape {tuple(tensor.shape)}")
    return tensor


def give(keys, counts, tensors):
    """Puts a layer's outputs where the model collects them: `counts` of each key."""
    collector, at = _variable().get(), 0
    for key, count in zip(keys, counts):
        collector[key].extend(tensors[at:at + count])
        at += count
