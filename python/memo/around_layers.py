"""Measures the memory that a model's own code needs on a GPU around its layers: for embeddings, norms, the head, the loss, hidden
states, and the gradients of all these."""

import contextlib
import functools

import torch
from torch.utils._pytree import tree_leaves

from memo import devices, layers, router_outputs
from memo.patching import Patching


class AroundLayers:
    """Bytes by number of tokens, from two steps of few tokens in which layers compute nothing, but hold what they hold in a
    session. Each phase of a step has a peak that grows with the tokens; from fewer of them than a tile of logits, a longer
    context is overestimated."""

    def __init__(self, planning, tokens, returns_tuple):
        """returns_tuple: whether layers return their hidden states in a tuple."""
        self._counts = (tokens // 2, tokens)
        self._peaks = [_step(planning, count, returns_tuple) for count in self._counts]

    def bytes(self, tokens) -> int:
        few, many = self._counts
        return max(a + (b - a) * (tokens - few) // (many - few) for a, b in zip(*self._peaks))


def requested(device, which="current") -> int:
    """Bytes that tensors ask for, now or at their peak."""
    return torch.cuda.memory_stats(device)[f"requested_bytes.all.{which}"]


class _Phases:
    """The peaks of memory that tensors ask for: before layers, in their forward, between, in their backward, and after."""

    def __init__(self, device):
        self.device, self.peaks, self._now, self._before = device, [0] * 5, 0, requested(device)
        torch.cuda.reset_peak_memory_stats(device)

    def enter(self, phase):
        self.peaks[self._now] = max(self.peaks[self._now], requested(self.device, "peak") - self._before)
        torch.cuda.reset_peak_memory_stats(self.device)
        self._now = phase


class _Layer(torch.autograd.Function):
    """Holds what LayerSession (memo/plugin/layer_session.cpp) holds outside of its plan: padded rows, outputs, and float32 sums
    of the gradients of `parameters`."""

    @staticmethod
    def forward(ctx, phases, begins, parameters, hidden, trains):
        ctx.phases, ctx.begins, ctx.parameters = phases, begins, parameters
        phases.enter(1)
        padded, y = hidden.clone(), hidden.clone()
        del padded
        phases.enter(2)
        return y

    @staticmethod
    def backward(ctx, d):
        ctx.phases.enter(3)
        d_hidden, padded = torch.empty_like(d), d.clone()
        sums = [torch.empty(p.shape, dtype=torch.float32, device=p.device) for p in ctx.parameters]
        d_hidden.copy_(padded)
        del padded
        for i, p in enumerate(ctx.parameters):
            sums[i] = sums[i].to(p.dtype)
        del sums
        if ctx.begins:
            ctx.phases.enter(4)
        return None, None, None, d_hidden, None


@contextlib.contextmanager
def _aliases(model, inner):
    """Within, the parameters outside of layers are other tensors over the same memory, with gradients of their own."""
    inside = {id(p) for layer in inner for p in layer.parameters()}
    aliases, swapped = {}, []
    for module in model.modules():
        for name, p in module._parameters.items():
            if p is None or id(p) in inside:
                continue
            if id(p) not in aliases:
                aliases[id(p)] = p.detach().requires_grad_(p.requires_grad)
                if p.requires_grad:
                    aliases[id(p)].grad = torch.zeros_like(p)
            swapped.append((module._parameters, name, p))
            module._parameters[name] = aliases[id(p)]
    try:
        yield
    finally:
        for parameters, name, p in swapped:
            parameters[name] = p


@contextlib.contextmanager
def _training(model):
    """Within, all modules train."""
    others = [module for module in model.modules() if not module.training]
    for module in others:
        module.training = True
    try:
        yield
    finally:
        for module in others:
            module.training = False


def _step(planning, tokens, returns_tuple):
    """The peaks of a step's phases, beyond the memory before it."""
    kind, patching = planning.kind, Patching()
    head = kind.head()  # one of its own, since a head knows which modules it has patched
    if head:
        head.tile = planning.head.tile
    trains, arguments = torch.ones((), requires_grad=True), []

    def hold(i, forward):
        parameters = planning.parameters(i)

        def run(*args, **kwargs):
            hidden, *others = layers.hidden_of(planning.layers[i], args, kwargs)
            arguments.append(others)  # as layers.Calls does
            y = _Layer.apply(phases, i == 0, parameters, hidden, trains if parameters else None)
            return (y,) if returns_tuple else y
        return run

    with contextlib.ExitStack() as around:
        around.callback(patching.restore)
        for i, layer in enumerate(planning.layers):
            patching.replace(layer, functools.partial(hold, i))
        if head:
            head.patch(patching)
        for context in (devices.same_random(planning.device), router_outputs.nothing(), kind.our_attention(),
                        _training(kind.model), _aliases(kind.model, planning.layers), torch.enable_grad()):
            around.enter_context(context)
        phases = _Phases(planning.device)
        if head:
            head.loss(kind.ids(tokens)).backward()
        else:
            output = next(t for t in tree_leaves(kind.example(tokens)) if isinstance(t, torch.Tensor) and t.requires_grad)
            output.backward(torch.zeros_like(output))
        phases.enter(0)
    return phases.peaks
