"""An attached model: its layers as they run by plans."""

import functools
import warnings

import torch

from memo import captured, layers
from memo.forwards import Forwards
from memo.trl_tiles import TrlTiles

ATTRIBUTE = "_memo_attachment"


class Attachment:
    """A model's plans. `plan` is that of the longest length so far; `last` tells of the last step."""

    def __init__(self, planning, plan):
        self._planning, self._kind = planning, planning.kind
        self.model, self.owner, self.layers = self._kind.model, self._kind.owner, self._kind.layers
        self.names, self.block = planning.names, planning.block
        self._calls = layers.Calls(self.names, self.layers, planning.group)
        self._running, self._session, self._open = False, None, None
        self._checks = {}  # of plans that were watched, by what they are for
        state = planning.state_before_steps()
        if plan is None:
            self.plan = planning.plan_of(state, planning.blocks)
        else:
            planning.give(plan)
            self._session_for(state, planning.blocks * self.block)  # refuses one for other layers
        self._head, self._trl_tiles = planning.head, TrlTiles()

    def _session_for(self, state, tokens):
        blocks = self._planning.blocks_for(tokens)
        if self._open != (state, blocks):
            self.plan = self._planning.plan_of(state, blocks)
            self._close()  # its memory first
            self._session = self._planning.open(state, self.plan, self._calls, (state, blocks) not in self._checks)
            self._open = (state, blocks)
        return self._session, blocks * self.block

    def _close(self):
        if self.checked:
            self._checks[self._open] = self.checked
        self._session = self._open = None

    def patch(self):
        self.model.__dict__[ATTRIBUTE] = self
        self._forwards = Forwards()
        self._forwards.replace(self.owner, self._run_owner)
        for module in self._kind.around():
            self._forwards.replace(module, self._run_around)
        for i, layer in enumerate(self.layers):
            self._forwards.replace(layer, functools.partial(self._run_layer, i))
        if self._head:
            self._head.patch()

    def unpatch(self):
        self._forwards.restore()
        if self._head:
            self._head.unpatch()
        self._trl_tiles.restore()
        self._close()
        self.model.__dict__.pop(ATTRIBUTE, None)

    def _run_around(self, forward):
        def run(*args, **kwargs):
            if not (self.owner.training and torch.is_grad_enabled()):
                return forward(*args, **kwargs)
            with self._kind.our_masks(kwargs):
                return forward(*args, **kwargs)
        return torch.compiler.disable(run)

    def _run_owner(self, forward):
        def run(*args, **kwargs):
            training = self.owner.training and torch.is_grad_enabled()
            if not training or not self._kind.prepare_call(kwargs):
                return forward(*args, **kwargs)
            if self._kind.turn_checkpointing_off():
                warnings.warn("memo: gradient_checkpointing is turned off; the plan decides what is computed again")
            self._trl_tiles.shrink()
            self._running = True
            try:
                with self._kind.our_attention():
                    return forward(*args, **kwargs)
            finally:
                self._running = False
        return torch.compiler.disable(run)  # torch.compile leaves out what runs by a plan

    def _run_layer(self, i, forward):
        def run(hidden, *args, **kwargs):
            if not self._running:
                return forward(hidden, *args, **kwargs)
            named = layers.arguments(self.layers[i], args, kwargs)
            if i == 0:
                if hidden.device != self._planning.device:
                    raise ValueError(f"the model was moved from {self._planning.device} to {hidden.device}; attach it there")
                batch, length = hidden.shape[:2]
                state = self._planning.state_now()
                self._calls.capture(state[1])
                session, context = self._session_for(state, batch * length)
                self._step = (session, state, layers.Arguments(batch, length, context, self.block, self._planning.group))
            session, state, cut = self._step
            self._calls.set(i, cut.blocks(self.names[i], named), cut.masks)
            y, *besides = _Layer.apply(self._planning, session, state, i, hidden, *self._planning.parameters(i))
            if i == len(self.layers) - 1:
                cut.masks.watch(y)
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
        return self._checks.get(self._open) or (self._session.check if self._session else None)

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
    def forward(ctx, planning, session, state, layer, hidden, *parameters):
        with planning.around(state, layer):
            y, besides = session.forward(layer, hidden.detach().reshape(-1, hidden.shape[-1]))
        ctx.planning, ctx.session, ctx.state, ctx.layer, ctx.step = planning, session, state, layer, session.step
        ctx.parameters = parameters
        return y.view(hidden.shape), *besides

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, d, *d_besides):
        if ctx.session.step != ctx.step:
            raise RuntimeError("memo: the model ran forward again before backward; one step at a time")
        with ctx.planning.around(ctx.state, ctx.layer):
            d_hidden, gradients = ctx.session.backward(ctx.layer, d.reshape(-1, d.shape[-1]), list(d_besides),
                                                       ctx.parameters)
        return (None, None, None, None, d_hidden.view(d.shape), *gradients)
