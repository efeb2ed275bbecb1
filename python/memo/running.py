"""An attached model: its plans, and its layers as they run by them."""

import contextlib
import warnings

import torch

from memo import _core, autocast, captured, devices, layers, ranks
from memo.documents import document_starts
from memo.errors import UnsupportedModel
from memo.units import format_bytes

ATTRIBUTE = "_memo_attachment"
_PROFILED = 2048  # tokens, about, of the profile's longest run
_LENGTHS = sorted({m << e for m in (2, 3) for e in range(40)} | {1})  # blocks of a plan, so that lengths share plans


class Attachment:
    """A model's plans. `plan` is that of the longest length so far; `last` tells of the last step."""

    def __init__(self, kind, context, block, device_limit, host_limit, disk, disk_limit, strategy, head_groups,
                 sequence_group, plan):
        if not isinstance(context, int) or context < 1:
            raise ValueError(f"context = {context!r}: write a number of tokens")
        if strategy not in _core.strategies():
            raise ValueError(f"strategy = {strategy!r}: one of {', '.join(_core.strategies())}")
        self._kind, self.strategy, self.device_limit = kind, strategy, device_limit
        self.model, self.owner, self.layers = kind.model, kind.owner, kind.layers
        self.names = [f"{kind.name}.{i} ({type(layer).__name__})" for i, layer in enumerate(self.layers)]
        self._refuse()
        if not isinstance(head_groups, int) or head_groups < 1 or kind.kv_heads % head_groups:
            raise ValueError(f"head_groups = {head_groups!r}: a divisor of the {kind.kv_heads} key heads")
        self._group, count = sequence_group, ranks.count(sequence_group)
        keys = kind.kv_heads // head_groups
        if kind.heads // head_groups % count or (keys % count and count % keys):
            raise ValueError(f"sequence_group: its {count} ranks do not divide the {kind.heads // head_groups} heads and "
                             f"{keys} key heads of a head group")
        self.block = block if block != "auto" else min(1024, -(-context // 64) * 64)
        if not isinstance(self.block, int) or self.block < 1:
            raise ValueError(f"block = {block!r}: write a number of tokens, or \"auto\"")
        self._calls = layers.Calls(self.names, self.layers, sequence_group)
        self._running, self._captures = False, ()
        self._profilers, self._plans, self._session, self._open = {}, {}, None, None
        self._blocks_asked = -(-context // self.block)
        self._kinds = self._look(min(self._blocks_asked, max(2, _PROFILED // self.block)) * self.block)
        self._options = dict(
            model=f"{type(self.model).__name__} {len(self.layers)} x {kind.hidden_size}", layers=len(self.layers),
            hidden_size=kind.hidden_size, heads=kind.heads, kv_heads=kind.kv_heads, head_dim=kind.head_dim,
            groups=head_groups, block=self.block, host_limit=host_limit,
            disk=str(disk) if disk is not None else None, disk_limit=disk_limit,
            windows=kind.windows if len(set(kind.windows)) > 1 else [])
        if plan is not None:
            self._give(plan)
        self.plan = self._plan_of(self._state(), self._blocks_asked)
        self._head = kind.head()

    # ---- what the model is

    def _refuse(self):
        for i, layer in enumerate(self.layers):
            for name, module in layer.named_modules():
                if isinstance(module, torch.nn.Dropout) and module.p > 0:
                    raise UnsupportedModel(f"{self.names[i]}: dropout {module.p} in {name}; set it to 0")
        self._device = devices.of(self.names, self.layers)

    def _parameters(self, layer):
        return [p for p in self.layers[layer].parameters() if p.requires_grad]

    # ---- before the first step

    def _look(self, tokens):
        """Runs the model's own layers once, and keeps what the first of each kind is given: name, hidden, arguments."""
        kinds, forwards = {}, layers.own_forwards(self.layers)

        def watch(i, layer, forward):
            def run(hidden, *args, **kwargs):
                signature = (type(layer), str([(n, p.shape, p.dtype, p.requires_grad) for n, p in
                                               layer.named_parameters()]),
                             str([getattr(m, "sliding_window", None) for m in layer.modules()]))
                self._captures = captured.wanted()
                kinds.setdefault(signature, {"layer": i, "hidden": hidden.detach().clone(), "args": args,
                                             "kwargs": kwargs})
                return forward(hidden, *args, **kwargs)
            return run

        for i, layer in enumerate(self.layers):
            layer.forward = watch(i, layer, layer.forward)
        try:
            with torch.no_grad():
                self._kind.example(tokens)
        finally:
            layers.put_forwards(forwards)
        if not kinds:
            raise UnsupportedModel(f"{type(self.owner).__name__} did not run its layers")
        return sorted(kinds.values(), key=lambda kind: kind["layer"])

    def _prepare(self, calls, place, kind):
        """Gives what a layer was seen with to layer `place` of `calls`."""
        tokens = kind["hidden"].shape[1]
        named = layers.arguments(self.layers[kind["layer"]], kind["args"], kind["kwargs"])
        calls.set(place, layers.Arguments(1, tokens, tokens, self.block).blocks(self.names[kind["layer"]], named))

    def check(self):
        """Runs a layer of each kind both ways, and compares outputs and gradients."""
        profiler = self._profiler(self._state(), split=False)
        for kind in self._kinds:
            with layers.whole(self.layers[kind["layer"]]):
                self._check(kind, profiler)

    def _check(self, kind, profiler):
        i, hidden = kind["layer"], kind["hidden"]
        layer, parameters = self.layers[i], self._parameters(i)
        d = torch.randn(hidden.shape, generator=torch.Generator().manual_seed(1)).to(hidden)
        with torch.enable_grad(), layers.named(self.names[i]):
            leaf = hidden.clone().requires_grad_()
            y = layer.forward(leaf, *kind["args"], **kind["kwargs"])
            y = y[0] if isinstance(y, tuple) else y
            plain = torch.autograd.grad(y, [leaf, *parameters], d, allow_unused=True)
        state, calls = self._state(), layers.Calls([self.names[i]], [layer])
        self._prepare(calls, 0, kind)
        calls.capture(state[1])
        with layers.named(self.names[i]):
            ours, d_hidden, gradients = self._in_backward(
                state, i, lambda: profiler.try_layer(calls, hidden[0], d[0], parameters))
        pairs = [("output", y.detach()[0], ours), ("gradient of the input", plain[0][0], d_hidden)]
        names = [name for name, p in layer.named_parameters() if p.requires_grad]
        pairs += [(f"gradient of {name}", a, b) for name, a, b in zip(names, plain[1:], gradients)]
        bound = 1e-3 if hidden.dtype == torch.float32 else 5e-2
        for what, a, b in pairs:
            if a is None and b is None:
                continue
            a = torch.zeros_like(b) if a is None else a
            b = torch.zeros_like(a) if b is None else b
            error = (a.float() - b.float()).norm() / a.float().norm().clamp_min(1e-12)
            if not error <= bound:
                raise UnsupportedModel(f"{self.names[i]}: its {what} by token blocks differs by {error:.1e} from the "
                                       "model's own")

    # ---- plans

    def _state(self):
        """What layers allocate by, besides their input: autocast's dtype, and what is captured from inside of them."""
        return autocast.state(self._device.type), captured.wanted() if self._running else self._captures

    def _profiler(self, state, split=True):
        """split: with the sequence over the ranks of the group, if there is one."""
        group, key = self._group if split else None, (state, split or self._group is None)
        if key not in self._profilers:
            calls = layers.Calls(self.names[:1], self.layers[:1], group)
            self._prepare(calls, 0, self._kinds[0])
            calls.capture(state[1])
            with layers.whole(self.layers[0]), layers.named(self.names[0]):
                self._profilers[key] = self._in_backward(state, 0, lambda: _core.Profiler(
                    hidden=self._kinds[0]["hidden"][0], calls=calls, parameters=self._parameters(0), **self._options))
        return self._profilers[key]

    @contextlib.contextmanager
    def _around(self, state, layer):
        """What a layer's calls run in."""
        with self._kind.our_attention(), autocast.around(self._device.type, state[0], self.layers[layer].parameters()):
            yield

    def _in_backward(self, state, layer, work):
        def run():
            with self._around(state, layer):
                return work()
        return devices.in_backward(self._device, run)

    def _outside(self, context):
        """Bytes of the model and of a step that are not the plan's: weights, gradients, AdamW's moments, hidden states
        between layers, a tile of logits."""
        parameters = list(self.model.parameters())
        trained = [p for p in parameters if p.requires_grad]
        element = parameters[0].element_size()
        fixed = sum(p.nbytes for p in parameters) + sum(p.nbytes + 8 * p.numel() for p in trained)
        return fixed + 4 * context * self._kind.hidden_size * element

    def _limit(self, context):
        """Bytes that `device_limit` leaves a plan; 0: no limit."""
        outside = self._outside(context)
        if self.device_limit and self.device_limit <= outside:
            raise ValueError(f"device_limit: weights, gradients, moments and hidden states alone take "
                             f"{format_bytes(outside)}")
        return self.device_limit - outside if self.device_limit else 0

    def _give(self, plan):
        """The plan of `context`, instead of one that is made."""
        is_for, context = plan.describe(), self._blocks_asked * self.block
        if (is_for["context"], is_for["block"]) != (context, self.block):
            raise ValueError(f"plan: it is for {is_for['context']} tokens in blocks of {is_for['block']}, not for {context} in "
                             f"blocks of {self.block}")
        limit = self._limit(context)
        if limit and is_for["device_peak"] > limit:
            raise ValueError(f"plan: it takes {format_bytes(is_for['device_peak'])}, device_limit leaves "
                             f"{format_bytes(limit)}")
        self._plans[self._state(), self._blocks_asked] = plan
        self._session_for(self._state(), context)  # refuses one for other layers

    def _plan_of(self, state, blocks):
        if (state, blocks) not in self._plans:
            context, profiler = blocks * self.block, self._profiler(state)
            outside, limit = self._outside(context), self._limit(context)
            with layers.whole(self.layers[0]):
                profile = self._in_backward(state, 0, lambda: profiler.profile(context))

            def make():
                try:
                    return _core.make_plan(profile, self.strategy, limit)
                except ValueError as error:
                    raise ValueError(f"{error} (besides {format_bytes(outside)} of weights, gradients, moments and hidden "
                                     "states)") from None

            self._plans[state, blocks] = ranks.agreed(self._group, make)
        return self._plans[state, blocks]

    def _session_for(self, state, tokens):
        blocks = -(-tokens // self.block)
        if self._group is None:
            blocks = min(n for n in (*_LENGTHS, self._blocks_asked) if n >= blocks)
        elif tokens % self.block:
            raise ValueError(f"{tokens} tokens on this rank: of a split sequence each has whole blocks of {self.block}")
        if self._open != (state, blocks):
            self.plan = self._plan_of(state, blocks)
            self._session = self._open = None  # its memory first
            if self._device.type == "cuda":
                torch.cuda.empty_cache()  # PyTorch's own keeps what is free
            self._session = self._profiler(state).open(self.plan, self._kinds[0]["hidden"].dtype, self._calls)
            self._open = (state, blocks)
        return self._session, blocks * self.block

    # ---- steps

    def patch(self):
        self.model.__dict__[ATTRIBUTE] = self
        self._forwards = layers.own_forwards([self.owner, *self.layers])
        self.owner.forward = self._run_owner(self.owner.forward)  # torch.compile leaves out what runs by a plan
        for i, layer in enumerate(self.layers):
            layer.forward = self._run_layer(i, layer.forward)
        if self._head:
            self._head.patch()

    def unpatch(self):
        layers.put_forwards(self._forwards)
        self._forwards = []
        if self._head:
            self._head.unpatch()
        self._session = None
        self.model.__dict__.pop(ATTRIBUTE, None)

    def _run_owner(self, forward):
        def run(*args, **kwargs):
            training = self.owner.training and torch.is_grad_enabled()
            if not training or not self._kind.prepare_call(kwargs):
                return forward(*args, **kwargs)
            if self._kind.turn_checkpointing_off():
                warnings.warn("memo: gradient_checkpointing is turned off; the plan decides what is computed again")
            self._running = True
            try:
                with self._kind.our_attention():
                    return forward(*args, **kwargs)
            finally:
                self._running = False
        return torch.compiler.disable(run)

    def _run_layer(self, i, forward):
        def run(hidden, *args, **kwargs):
            if not self._running:
                return forward(hidden, *args, **kwargs)
            named = layers.arguments(self.layers[i], args, kwargs)
            if i == 0:
                if hidden.device != self._device:
                    raise ValueError(f"the model was moved from {self._device} to {hidden.device}; attach it there")
                batch, length = hidden.shape[:2]
                state = self._state()
                self._calls.capture(state[1])
                session, context = self._session_for(state, batch * length)
                starts = document_starts(batch, length, context, named.get("attention_mask"),
                                         named.get("position_ids"), named.get("cu_seq_lens_q"))
                if starts and self._group is not None:
                    raise ValueError("a split sequence is one document: no padding, packing or second row")
                self._step = (session, state, layers.Arguments(batch, length, context, self.block), starts)
            session, state, cut, starts = self._step
            self._calls.set(i, cut.blocks(self.names[i], named))
            y, *besides = _Layer.apply(self, session, state, i, starts, hidden, *self._parameters(i))
            if besides:
                captured.give(state[1], self._calls.counts, besides)
            return (y,) if self._calls.returns_tuple else y
        return run

    @property
    def last(self):
        """Of the last whole step: seconds from its begin to its end, seconds that compute waited, bytes out and in."""
        return self._session.last if self._session else None

    @property
    def checked(self):
        """Of the plan's first step, which is watched: accesses, conflicts (all ordered by events), poisoned bytes."""
        return self._session.check if self._session else None

    @property
    def device_peak(self):
        """Bytes of the plan's memory that steps have touched."""
        return self._session.device_peak if self._session else 0

    @property
    def departures(self):
        """How often calls departed from the plan, and where first."""
        return self._session.departures if self._session else (0, [])


class _Layer(torch.autograd.Function):
    @staticmethod
    def forward(ctx, attachment, session, state, layer, starts, hidden, *parameters):
        with attachment._around(state, layer):
            y, besides = session.forward(layer, hidden.detach().reshape(-1, hidden.shape[-1]), starts)
        ctx.attachment, ctx.session, ctx.state, ctx.layer, ctx.step = attachment, session, state, layer, session.step
        ctx.parameters = parameters
        return y.view(hidden.shape), *besides

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, d, *d_besides):
        if ctx.session.step != ctx.step:
            raise RuntimeError("memo: the model ran forward again before backward; one step at a time")
        with ctx.attachment._around(ctx.state, ctx.layer):
            d_hidden, gradients = ctx.session.backward(ctx.layer, d.reshape(-1, d.shape[-1]), list(d_besides),
                                                       ctx.parameters)
        return (None, None, None, None, None, d_hidden.view(d.shape), *gradients)
