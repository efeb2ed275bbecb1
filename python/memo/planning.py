"""Profiles of a model's layers, plans made from them, and whether the layers by token blocks give what they give whole."""

import contextlib
import dataclasses
import functools

import torch

from memo import _core, autocast, captured, devices, layers, ranks
from memo.errors import UnsupportedModel
from memo.forwards import Forwards
from memo.units import format_bytes

_PROFILED = 2048  # tokens, about, of the profile's longest run
_LENGTHS = sorted({m << e for m in (2, 3) for e in range(40)} | {1})  # blocks of a plan, so that lengths share plans


@dataclasses.dataclass
class Seen:
    """What the model gave to the first layer of a kind: hidden [1, tokens, h], and arguments."""

    layer: int
    hidden: torch.Tensor
    args: tuple
    kwargs: dict


class Planning:
    """Plans by length and by `state`: what layers allocate by, besides their input: autocast's dtype, and what is captured
    from inside of them."""

    def __init__(self, kind, context, block, device_limit, host_limit, disk, disk_limit, strategy, head_groups, group):
        if not isinstance(context, int) or context < 1:
            raise ValueError(f"context = {context!r}: write a number of tokens")
        if strategy not in _core.strategies():
            raise ValueError(f"strategy = {strategy!r}: one of {', '.join(_core.strategies())}")
        self.kind, self.layers, self.strategy, self.device_limit = kind, kind.layers, strategy, device_limit
        self.names = [f"{kind.name}.{i} ({type(layer).__name__})" for i, layer in enumerate(self.layers)]
        for layer_name, layer in zip(self.names, self.layers):
            for name, module in layer.named_modules():
                if isinstance(module, torch.nn.Dropout) and module.p > 0:
                    raise UnsupportedModel(f"{layer_name}: dropout {module.p} in {name}; set it to 0")
        self.device = devices.of(self.names, self.layers)
        if not isinstance(head_groups, int) or head_groups < 1 or kind.kv_heads % head_groups:
            raise ValueError(f"head_groups = {head_groups!r}: a divisor of the {kind.kv_heads} key heads")
        self.group, count = group, ranks.count(group)
        heads, keys = kind.heads // head_groups, kind.kv_heads // head_groups
        if heads % count or (keys % count and count % keys):
            raise ValueError(f"sequence_group: its {count} ranks do not divide the {heads} heads and {keys} key heads of a head "
                             "group")
        self.block = block if block != "auto" else min(1024, -(-context // 64) * 64)
        if not isinstance(self.block, int) or self.block < 1:
            raise ValueError(f"block = {block!r}: write a number of tokens, or \"auto\"")
        self.blocks = -(-context // self.block)
        self.head = kind.head()
        self._profilers, self._plans = {}, {}
        self._look(min(self.blocks, max(2, _PROFILED // self.block)) * self.block)
        self._options = dict(
            model=f"{type(kind.model).__name__} {len(self.layers)} x {kind.hidden_size}", layers=len(self.layers),
            hidden_size=kind.hidden_size, heads=kind.heads, kv_heads=kind.kv_heads, head_dim=kind.head_dim,
            groups=head_groups, block=self.block, host_limit=host_limit,
            disk=str(disk) if disk is not None else None, disk_limit=disk_limit,
            windows=kind.windows if len(set(kind.windows)) > 1 else [])

    def parameters(self, layer):
        return [p for p in self.layers[layer].parameters() if p.requires_grad]

    @contextlib.contextmanager
    def around(self, state, layer):
        """What a layer's calls run in."""
        with self.kind.our_attention(), autocast.around(self.device.type, state[0], self.layers[layer].parameters()):
            yield

    def state_now(self):
        return autocast.state(self.device.type), captured.wanted()

    def state_before_steps(self):
        return autocast.state(self.device.type), self._captures

    # ---- layers as the model runs them

    def _look(self, tokens):
        """Runs the model's own layers once, and keeps what the first of each kind is given."""
        seen, forwards = {}, Forwards()

        def watch(i, layer, forward):
            def run(hidden, *args, **kwargs):
                signature = (type(layer), str([(n, p.shape, p.dtype, p.requires_grad) for n, p in
                                               layer.named_parameters()]), self.kind.windows[i])
                self._captures = captured.wanted()
                seen.setdefault(signature, Seen(i, hidden.detach().clone(), args, kwargs))
                return forward(hidden, *args, **kwargs)
            return run

        for i, layer in enumerate(self.layers):
            forwards.replace(layer, functools.partial(watch, i, layer))
        try:
            with torch.no_grad():
                self.kind.example(tokens)
        finally:
            forwards.restore()
        if not seen:
            raise UnsupportedModel(f"{type(self.kind.owner).__name__} did not run its layers")
        self._seen = list(seen.values())
        # Measured is one whose attention sees most: what a window does to its time is known.
        self._measured = max(self._seen, key=lambda one: self.kind.windows[one.layer] or torch.inf)

    def _calls(self, one, state, group=None):
        """Calls of one layer alone, with what it was seen with."""
        name, layer, tokens = self.names[one.layer], self.layers[one.layer], one.hidden.shape[1]
        calls = layers.Calls([name], [layer], group)
        named = layers.arguments(layer, one.args, one.kwargs)
        cut = layers.Arguments(1, tokens, tokens, self.block)
        calls.set(0, cut.blocks(name, named), cut.masks)
        calls.capture(state[1])
        return calls

    def _in_backward(self, state, layer, work):
        def run():
            with self.around(state, layer), layers.named(self.names[layer]):
                return work()
        with layers.whole(self.layers[layer]):
            return devices.in_backward(self.device, run)

    def check(self):
        """Runs a layer of each kind both ways, and compares outputs and gradients."""
        state = self.state_before_steps()
        profiler = self._profiler(state, split=False)
        for one in self._seen:
            with layers.whole(self.layers[one.layer]):
                self._check(one, profiler, state)

    def _check(self, one, profiler, state):
        name, layer, hidden, parameters = self.names[one.layer], self.layers[one.layer], one.hidden, self.parameters(one.layer)
        d = torch.randn(hidden.shape, generator=torch.Generator().manual_seed(1)).to(hidden)
        with torch.enable_grad(), layers.named(name):
            leaf = hidden.clone().requires_grad_()
            y = layer.forward(leaf, *one.args, **one.kwargs)
            y = y[0] if isinstance(y, tuple) else y
            plain = torch.autograd.grad(y, [leaf, *parameters], d, allow_unused=True)
        calls = self._calls(one, state)
        ours, d_hidden, gradients = self._in_backward(
            state, one.layer, lambda: profiler.try_layer(calls, hidden[0], d[0], parameters))
        pairs = [("output", y.detach()[0], ours), ("gradient of the input", plain[0][0], d_hidden)]
        trained = [n for n, p in layer.named_parameters() if p.requires_grad]
        pairs += [(f"gradient of {n}", a, b) for n, a, b in zip(trained, plain[1:], gradients)]
        bound = 1e-3 if hidden.dtype == torch.float32 and state[0] is None else 5e-2
        for what, a, b in pairs:
            if a is None and b is None:
                continue
            a = torch.zeros_like(b) if a is None else a
            b = torch.zeros_like(a) if b is None else b
            error = (a.float() - b.float()).norm() / a.float().norm().clamp_min(1e-12)
            if not error <= bound:
                raise UnsupportedModel(f"{name}: its {what} by token blocks differs by {error:.1e} from the model's own")

    # ---- plans

    def _profiler(self, state, split=True):
        """split: with the sequence over the ranks of the group, if there is one."""
        group, key = self.group if split else None, (state, split or self.group is None)
        if key not in self._profilers:
            one = self._measured
            calls = self._calls(one, state, group)
            self._profilers[key] = self._in_backward(state, one.layer, lambda: _core.Profiler(
                hidden=one.hidden[0], attention=autocast.of_attention(state[0], one.hidden.dtype), calls=calls,
                parameters=self.parameters(one.layer), **self._options))
        return self._profilers[key]

    def _outside(self, context):
        """Bytes of the model and of a step that are not the plan's: weights, gradients, AdamW's moments, hidden states
        between layers, a tile of logits."""
        parameters = list(self.kind.model.parameters())
        trained = [p for p in parameters if p.requires_grad]
        element = parameters[0].element_size()
        fixed = sum(p.nbytes for p in parameters) + sum(p.nbytes + 8 * p.numel() for p in trained)
        tile = self.head.tile_bytes if self.head else 0
        return fixed + tile + 4 * context * self.kind.hidden_size * element

    def _limit(self, context):
        """Bytes that `device_limit` leaves a plan; 0: no limit."""
        outside = self._outside(context)
        if self.device_limit and self.device_limit <= outside:
            raise ValueError(f"device_limit: weights, gradients, moments, hidden states and a tile of logits alone take "
                             f"{format_bytes(outside)}")
        return self.device_limit - outside if self.device_limit else 0

    def give(self, plan):
        """The plan of `context`, instead of one that is made."""
        is_for, context = plan.describe(), self.blocks * self.block
        if (is_for["context"], is_for["block"]) != (context, self.block):
            raise ValueError(f"plan: it is for {is_for['context']} tokens in blocks of {is_for['block']}, not for {context} in "
                             f"blocks of {self.block}")
        limit = self._limit(context)
        if limit and is_for["device_peak"] > limit:
            raise ValueError(f"plan: it takes {format_bytes(is_for['device_peak'])}, device_limit leaves "
                             f"{format_bytes(limit)}")
        self._plans[self.state_before_steps(), self.blocks] = plan

    def blocks_for(self, tokens):
        """Of the plan for so many tokens."""
        blocks = -(-tokens // self.block)
        if self.group is None:
            return min(n for n in (*_LENGTHS, self.blocks) if n >= blocks)
        if tokens % self.block:
            raise ValueError(f"{tokens} tokens on this rank: of a split sequence each has whole blocks of {self.block}")
        return blocks

    def plan_of(self, state, blocks):
        if (state, blocks) not in self._plans:
            context, profiler = blocks * self.block, self._profiler(state)
            outside, limit = self._outside(context), self._limit(context)
            profile = self._in_backward(state, self._measured.layer, lambda: profiler.profile(context))

            def make():
                try:
                    return _core.make_plan(profile, self.strategy, limit)
                except ValueError as error:
                    raise ValueError(f"{error} (besides {format_bytes(outside)} of weights, gradients, moments, hidden "
                                     "states and logits)") from None

            self._plans[state, blocks] = ranks.agreed(self.group, make)
        return self._plans[state, blocks]

    def open(self, state, plan, calls, watch):
        """A session of the plan, whose first step may be watched."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()  # PyTorch's own keeps what is free
        return self._profiler(state).open(plan, calls, watch)
