"""Router logits of a mixture of experts, which transformers' hooks collect from inside of layers while a model runs. They become
extra outputs of a layer that runs by blocks, with gradients."""

import contextlib
import contextvars
import sys

from memo.errors import UnsupportedModel

_POSSIBLE = ("router_logits",)
_OUTSIDE = ("hidden_states",)  # collected where a layer ends, which works as without memo


_NOTHING = contextvars.ContextVar("nothing is collected", default=None)


def _variable():
    hooks = sys.modules.get("transformers.utils.output_capturing")
    return hooks._active_collector.context_var if hooks else _NOTHING


def wanted() -> tuple:
    """The keys of outputs that transformers now collects from inside of layers."""
    collector = _variable().get()
    keys = [key for key, value in (collector or {}).items() if isinstance(value, list) and key not in _OUTSIDE]
    for key in keys:
        if key not in _POSSIBLE:
            raise UnsupportedModel(f"output_{key} cannot be had from layers that run by token blocks")
    return tuple(keys)


@contextlib.contextmanager
def nothing():
    """Within, outputs of layers are not collected."""
    variable = _variable()
    before = variable.set(None)
    try:
        yield
    finally:
        variable.reset(before)


def apart(context, keys) -> dict:
    """Makes `context` collect a block's outputs in lists of their own, by key, and returns them."""
    lists = {key: [] for key in keys}
    context.run(_variable().set, lists or None)
    return lists


def rows(layer_name, tensor, tokens):
    if tensor.dim() != 2 or tensor.shape[0] != tokens:
        raise UnsupportedModel(f"{layer_name} gives the rest of the model a tensor of shape {tuple(tensor.shape)}")
    return tensor


def give(keys, counts, tensors):
    """Adds a layer's outputs to the model's collection: `counts` tensors for each key."""
    collector, at = _variable().get(), 0
    for key, count in zip(keys, counts):
        collector[key].extend(tensors[at:at + count])
        at += count
