"""Finds the kinds of layers: layers of one kind use memory alike. Each layer runs a few tokens like a block, forward and
backward; its allocations and the tensors that autograd keeps tell its kind."""

import dataclasses
import functools

import torch

from memo import _core, layers, look, router_outputs
from memo.errors import UnsupportedModel
from memo.patching import Patching

_TRACED = 64  # tokens of the block whose traces distinguish layers


@dataclasses.dataclass
class Example:
    """The input of a layer in the model: hidden [1, tokens, h], and the other arguments."""

    layer: int
    hidden: torch.Tensor
    args: tuple
    kwargs: dict

    def first(self, tokens):
        """The same for the first tokens alone."""
        length = self.hidden.shape[1]
        cut = functools.partial(_cut, length=length, tokens=tokens)
        return Example(self.layer, self.hidden[:, :tokens], tuple(cut(a) for a in self.args),
                       {name: cut(value) for name, value in self.kwargs.items()})


def _cut(value, length, tokens):
    if isinstance(value, tuple):
        return tuple(_cut(part, length, tokens) for part in value)
    if not isinstance(value, torch.Tensor) or value.dim() == 0:
        return value
    if value.dim() == 4 and value.shape[2] == value.shape[3] == length:
        return value[:, :, :tokens, :tokens]
    if value.dim() >= 2 and value.shape[1] == length:
        return value[:, :tokens]
    return value[:tokens] if value.shape[0] == length and value.dim() == 1 else value


@dataclasses.dataclass
class Kinds:
    """of: the kind of each layer, counted from 0 in the order of layers; examples: the example of each kind's first layer;
    data_dependent: for each kind, whether its allocations depend on values; draws: whether layers draw random numbers."""

    of: list
    examples: list
    data_dependent: list
    draws: bool
    router_outputs: tuple  # keys of the outputs that the model collects from inside of layers (memo/router_outputs.py)
    returns_tuple: bool  # whether layers return their hidden states in a tuple


def find(planning, state, tokens) -> Kinds:
    """Runs the model on this many tokens, and each layer on a small block."""
    found, patching, keys = [], Patching(), []  # [(signature, structure, example, draws, returns_tuple)], a layer each

    def watch(i, layer, forward):
        def run(*args, **kwargs):
            hidden, args, kwargs = layers.hidden_of(layer, args, kwargs)
            keys[:] = state.router_outputs or router_outputs.wanted()
            if len(found) == i:
                example = Example(i, hidden.detach(), args, kwargs)
                signature, *others = _trace(planning, state._replace(router_outputs=tuple(keys)), example)
                if all(signature != other[0] for other in found):
                    example.hidden = example.hidden.clone()
                found.append((signature, look.structure(layer), example, *others))
            return forward(hidden, *args, **kwargs)
        return run

    for i, layer in enumerate(planning.layers):
        patching.replace(layer, functools.partial(watch, i, layer))
    before, planning.own_forward = planning.own_forward, patching.below
    try:
        with torch.no_grad():
            planning.kind.example(tokens)
    finally:
        planning.own_forward = before
        patching.restore()
    if not found:
        raise UnsupportedModel(f"{type(planning.kind.owner).__name__} did not run its layers")
    if len(found) != len(planning.layers):
        raise UnsupportedModel(f"{planning.names[len(found)]} was not run after {planning.names[len(found) - 1]}; layers run "
                               "in order, each once")
    return _group(found, tuple(keys))


def _trace(planning, state, example):
    """((before, after, without backward), draws, returns_tuple) of a layer; `after` is None where it depends on values."""
    tokens = min(planning.block, _TRACED, example.hidden.shape[1])
    few = example.first(tokens)
    noise = torch.randn(few.hidden.shape, generator=torch.Generator().manual_seed(1)).to(few.hidden)
    if example.layer == 0:
        planning.in_backward(state, [0], lambda: _find_heads(planning, few, state, tokens))
    options = planning.options(state, block=tokens, kinds=[0], data_dependent=[False], windows=[],
                               forward_layers=int(example.layer < state.forward_layers), hidden=few.hidden)
    traces = []
    for hidden in (few.hidden, noise):
        calls = planning.calls_of(few, state, block=tokens)
        traces.append(planning.in_backward(state, [example.layer], lambda: _core.trace_layer(
            options, hidden[0], calls.leaves(0), calls), calls.leaves(0)))
    (before, after, draws), (other_before, other_after, _) = traces
    if before != other_before:
        raise UnsupportedModel(f"{planning.names[example.layer]}: what it allocates before its attention hangs on values")
    forward_only = example.layer < state.forward_layers
    return (before, after if after == other_after else None, forward_only), draws, calls.returns_tuple


def _find_heads(planning, few, state, tokens):
    calls = planning.calls_of(few, state, tokens, any_heads=True)
    with torch.no_grad():
        query, key, *_ = calls.before(0, 0, few.hidden[0])
    calls.forget()
    planning.heads_are(query.shape[::2], key.shape[::2])


def _group(found, keys):
    # A layer is data dependent if one of the same structure is, even if its few tokens happened to allocate alike.
    dependent = {structure for signature, structure, *_ in found if signature[1] is None}
    signatures = [(s[0], None if structure in dependent else s[1], s[2]) for s, structure, *_ in found]
    unique = list(dict.fromkeys(signatures))
    examples = [found[signatures.index(one)][2] for one in unique]
    for example in examples:
        example.hidden = example.hidden.clone()
    return Kinds([unique.index(one) for one in signatures], examples, [one[1] is None for one in unique],
                 any(draws for *_, draws, _ in found), keys, any(returns_tuple for *_, returns_tuple in found))
