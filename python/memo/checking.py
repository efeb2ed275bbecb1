"""Checks that layers by token blocks compute the same as the model's own layers, up to the size of their rounding."""

import torch

from memo import layers
from memo.errors import UnsupportedModel
from memo.kinds import Example


def check(planning, state, found, profiler):
    """Runs a layer of each kind both ways, at a length of whole blocks and at an odd length with other values, and compares
    outputs and gradients. Layers that draw random numbers are compared in evaluation mode, where they draw none."""
    for kind, one in enumerate(found.examples):
        length = one.hidden.shape[1]
        odd = one.first(max(1, length - planning.block // 2 - 1))
        spread = odd.hidden.float().std().item() or 1.0
        values = torch.randn(odd.hidden.shape, generator=torch.Generator().manual_seed(3)) * spread
        for example in (one, Example(one.layer, values.to(odd.hidden), odd.args, odd.kwargs)):
            _Comparison(planning, state, example, found.draws).run(kind, profiler)


_OF_EXPERTS = ("top_k", "num_experts", "num_local_experts", "num_experts_per_tok")  # attributes of modules with experts


class _Comparison:
    def __init__(self, planning, state, example, draws):
        self.planning, self.state, self.example, self.draws = planning, state, example, draws
        self.layer = planning.layers[example.layer]
        self.routes = any(hasattr(module, name) for module in self.layer.modules() for name in _OF_EXPERTS)
        self.d = None  # gradient of the output; None for layers that run forward only
        if example.layer >= state.forward_layers:
            self.d = torch.randn(example.hidden.shape, generator=torch.Generator().manual_seed(1)).to(example.hidden)

    def run(self, kind, profiler):
        training = [module for module in self.layer.modules() if module.training] if self.draws else []
        for module in training:
            module.training = False
        try:
            with layers.whole(self.layer):
                self._compare(kind, profiler)
        finally:
            for module in training:
                module.training = True

    def _compare(self, kind, profiler):
        plain, planning = self._plain(), self.planning
        calls = planning.calls_of(self.example, self.state, planning.block)
        y, *d = planning.in_backward(self.state, [self.example.layer], lambda: profiler.try_layer(
            kind, calls, self.example.hidden[0], None if self.d is None else self.d[0], calls.leaves(0)), calls.leaves(0))
        ours = [y[None], d[0][None], *d[1]] if d else [y[None]]
        trained = [n for n, p in self.layer.named_parameters() if p.requires_grad]
        names = ["output", "gradient of the input", *(f"gradient of {n}" for n in trained)]
        exact = None
        for what, a, b, i in zip(names, plain, ours, range(len(plain))):
            a, b = _zeros_for_none(a, b)
            if a is None or _near(a, b):
                continue
            exact = exact or self._exact(plain, trained)
            best = exact[i]
            if self.routes:
                a, b, best = self._without_rerouted(a, b, best)
            if not _within_rounding(a, b, best):
                raise UnsupportedModel(f"{planning.names[self.example.layer]}: its {what} by token blocks differs by "
                                       f"{_difference(a, b):.1e} from the model's own, whose rounding is "
                                       f"{_difference(a, best):.1e}")

    def _without_rerouted(self, plain, ours, exact):
        """Leaves out the few tokens that rounding to bfloat16 may send to another expert: their rows, or, in gradients of
        parameters, to which each token contributes, the largest difference that so few tokens may make. None in float32."""
        tokens = self.example.hidden.shape[1]
        few = max(2, tokens // 64) if self.example.hidden.dtype != torch.float32 or self.state.dtype is not None else 0
        if few == 0 or exact is None:
            return plain, ours, exact
        if plain.shape != self.example.hidden.shape:
            difference = ours - plain
            kept = (1 - 2 * (few / tokens) ** 0.5 * _norm(plain) / _norm(difference).clamp_min(1e-30)).clamp_min(0)
            return plain, plain + difference * kept.to(plain.dtype), exact
        errors = (ours.float() - exact.float()).norm(dim=-1).flatten()
        rows = errors.argsort()[:max(tokens - few, 1)]
        return plain[0][rows], ours[0][rows], exact[0][rows]

    def _plain(self):
        leaves = layers.Leaves(self.layer)
        with torch.set_grad_enabled(self.d is not None), leaves:
            leaf = self.example.hidden.detach().clone().requires_grad_(self.d is not None)
            y = _first(self.planning.own_forward(self.layer)(leaf, *self.example.args, **self.example.kwargs))
            return self._with_gradients(y, [leaf, *leaves.wanted])

    def _with_gradients(self, y, leaves):
        """The output, and for layers with a backward side the gradients of these leaves."""
        if self.d is None:
            return [y]
        return [y.detach(), *torch.autograd.grad(y, leaves, self.d.to(y.dtype), allow_unused=True)]

    def _exact(self, plain, trained):
        """The same with more digits: float64 for float32, float32 for bfloat16. If the layer cannot compute so, returns the plain
        results, which allow no error."""
        more = torch.float64 if self.example.hidden.dtype == torch.float32 and self.state.dtype is None else torch.float32
        wide = lambda value: _map(value, lambda t: t.detach().to(more) if t.is_floating_point() else t)
        own = {n: wide(t) for n, t in (*self.layer.named_parameters(), *self.layer.named_buffers())}
        leaves = [own[n].requires_grad_() for n in trained]
        try:
            with torch.set_grad_enabled(self.d is not None), torch.autocast(self.planning.device.type, enabled=False):
                leaf = wide(self.example.hidden).clone().requires_grad_(self.d is not None)
                y = _first(
                    torch.func.functional_call(self.layer, own, (leaf, *wide(self.example.args)), wide(self.example.kwargs))
                )
                return self._with_gradients(y, [leaf, *leaves])
        except Exception:  # a layer whose kernels support one dtype only
            return plain


def _first(y):
    return y[0] if isinstance(y, tuple) else y


def _map(value, of):
    if isinstance(value, torch.Tensor):
        return of(value)
    if isinstance(value, tuple):
        return tuple(_map(part, of) for part in value)
    return {name: _map(part, of) for name, part in value.items()} if isinstance(value, dict) else value


def _zeros_for_none(a, b):
    if a is None and b is None:
        return None, None
    return torch.zeros_like(b) if a is None else a, torch.zeros_like(a) if b is None else b


def _norm(tensor):
    return tensor.double().norm()


def _difference(a, b):
    return (_norm(a.double() - b.double()) / _norm(a).clamp_min(1e-30)).item()


def _near(plain, ours):
    """Whether the difference is below the rounding of most operators of this dtype."""
    near = 1e-4 if plain.dtype == torch.float32 else 8e-3
    return bool(_norm(plain.double() - ours.double()) <= near * _norm(plain))


def _within_rounding(plain, ours, exact):
    """Whether the error is at most twice the plain model's own; for a gradient that is only rounding (zero in theory), at most
    16 times."""
    exact = torch.zeros_like(plain) if exact is None else exact
    of_plain, of_ours = _norm(plain.double() - exact.double()), _norm(ours.double() - exact.double())
    only_rounding = _norm(exact) <= 2 * of_plain
    return bool(of_ours <= (16 if only_rounding else 2) * of_plain)
