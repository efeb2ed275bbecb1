"""The Attachment of a model: it puts itself around the model's layers, and runs them by plans."""

import functools
import warnings

import torch

from memo import _core, layers, router_outputs
from memo.documents import several
from memo.errors import UnsupportedModel
from memo.patching import Patching
from memo.trl_tiles import TrlTiles

_ATTRIBUTE = "_memo_attachment"


def attachment_of(model):
    """The Attachment of a model, also below or above wrappers, or None. It is an attribute of the module that runs the layers."""
    return next((module.__dict__[_ATTRIBUTE] for module in model.modules() if _ATTRIBUTE in module.__dict__), None)


class Attachment:
    """A model's plans. `plan` is the plan of the last step, or of the attached context before the first; `last` has its times."""

    def __init__(self, planning, plan):
        self._planning, self._kind = planning, planning.kind
        self.model, self.owner = self._kind.model, self._kind.owner
        self._running, self._session, self._open, self._calls = False, None, None, None
        self._memory = _core.SessionMemory()
        self._checks = {}  # check mode's reports by (state, blocks, apart)
        self._meet_layers()
        state = planning.state_before_steps()
        if plan is None:
            self.plan = planning.first_plan()
        self.block = planning.block
        if plan is not None:
            planning.give(plan)
            self._session_for(state, planning.blocks * planning.block)  # refuses a plan for other layers
        self._head, self._trl_tiles = planning.head, TrlTiles()

    def _meet_layers(self):
        """Takes over the layers that planning has found."""
        planning = self._planning
        self.layers, self.names = planning.layers, planning.names
        self._calls = layers.Calls(self.names, self.layers, [planning.own_forward(layer) for layer in self.layers],
                                   planning.heads, planning.group)

    def _session_for(self, state, tokens, documents=False):
        blocks = self._planning.blocks_for(tokens)
        apart = self._planning.apart(documents, blocks * self.block)
        if self._open != (state, blocks, apart):
            self.plan = self._planning.plan_of(state, blocks, documents)
            self._close()  # before another session takes its memory
            self._meet_layers()  # new calls, since the old session, when it ends later, must drop only its own blocks
            self._session = self._planning.open(state, self.plan, self._calls, self._memory,
                                                (state, blocks, apart) not in self._checks)
            self._open = (state, blocks, apart)
        return self._session, blocks * self.block, apart

    def _close(self):
        if self.checked:
            self._checks[self._open] = self.checked
        self._leave_session()

    def _leave_session(self):
        if self._session:
            self._session.close()
        self._session = self._open = None

    def patch(self):
        self._patching = Patching()
        self._patching.put(self.owner, _ATTRIBUTE, self)
        self._patching.replace(self.owner, self._run_owner)
        self._kind.own_forward = functools.partial(type(self.owner).forward, self.owner)
        self._patch_layers()
        for module in self._kind.around():
            self._patching.replace(module, self._run_around)
        if self._head:
            self._head.patch(self._patching)

    def _patch_layers(self):
        self._layer_patching = Patching()
        self._planning.own_forward = self._layer_patching.below
        for i, layer in enumerate(self.layers):
            self._layer_patching.replace(layer, functools.partial(self._run_layer, i))

    def unpatch(self):
        self._layer_patching.restore()
        self._patching.restore()
        self._kind.own_forward = None
        self._trl_tiles.restore()
        self._close()
        self._memory.free()

    def _look_again(self):
        """Called before a step: makes plans for changed layers, and attaches layers that have replaced others."""
        changed = self._planning.look_again()
        if self._planning.trains():
            self._planning.kinds_of(self._planning.state_before_steps())  # may refuse, which must be before the step begins
        if not changed:
            return
        if [*map(id, self.layers)] != [*map(id, self._planning.layers)]:
            self._layer_patching.restore()
            self._planning.own_forward = lambda layer: layer.forward
            self._meet_layers()
            self._patch_layers()
        self._close()
        self._meet_layers()

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
            if not training or self._running or not self._kind.prepare_call(kwargs):
                return forward(*args, **kwargs)
            if self._kind.turn_checkpointing_off():
                warnings.warn("memo: gradient_checkpointing is turned off; the plan decides what is computed again")
            with self._kind.own_attention():
                self._look_again()
            self._trl_tiles.shrink()
            if self._head:
                self._head.patch(self._patching)
            random = torch.get_rng_state()
            while True:
                self._running = True
                try:
                    with self._kind.our_attention():
                        return forward(*args, **kwargs)
                except _Unplanned:  # the step has left nothing behind: it begins again
                    self._leave_session()
                    torch.set_rng_state(random)
                except _ModelsOwn:
                    self._running = False
                    return forward(*args, **kwargs)
                finally:
                    self._running = False
        return torch.compiler.disable(run)  # torch.compile must not trace code that runs by a plan

    def _begin(self, hidden, named):
        """Called by the first layer with its arguments: opens the session of this step."""
        planning = self._planning
        if hidden.device != planning.device:
            raise ValueError(f"the model was moved from {planning.device} to {hidden.device}; attach it there")
        batch, length = hidden.shape[:2]
        state = planning.state_now(hidden.requires_grad)
        if state.forward_layers == len(self.layers):
            raise _ModelsOwn  # no layer needs gradients
        self._running = False
        try:
            with self._kind.own_attention():
                session, context, apart = self._session_for(state, batch * length, several(batch, length, named))
        except UnsupportedModel:
            raise
        except ValueError as error:
            raise ValueError(f"memo: {error}") from None
        finally:
            self._running = True
        self._calls.collect(state.router_outputs)
        draws = planning.draws(state) or session.drew  # some layers draw only in steps
        seed = int(torch.randint(2**62, ()).item()) if draws else 0
        self._step = (session, state, layers.Arguments(batch, length, context, self.block, planning.group, apart),
                      seed)

    def _run_layer(self, i, forward):
        def run(*args, **kwargs):
            if not self._running:
                return forward(*args, **kwargs)
            hidden, args, kwargs = layers.hidden_of(self.layers[i], args, kwargs)
            named = layers.arguments(self.layers[i], args, kwargs)
            if i == 0:
                self._begin(hidden, named)
            session, state, cut, seed = self._step
            self._calls.set(i, cut.blocks(self.names[i], named), cut.masks)
            step = _LayerStep(self._planning, session, state, i, self.names[i], seed, self._calls.leaves(i))
            try:
                if i < state.forward_layers:
                    y, *extra_outputs = step.forward(hidden)
                else:
                    y, *extra_outputs = _Layer.apply(step, hidden, *self._planning.parameters(i))
            except _core.Failed as error:
                behind_attention = session.departures[0] > 0 and session.departures[1][-1].startswith("after")
                if behind_attention and self._planning.becomes_data_dependent(state, i):
                    raise _Unplanned from None
                raise RuntimeError(f"{self.names[i]}: {error}") from None
            except _core.BadInput as error:
                raise ValueError(f"{self.names[i]}: {error}") from None
            if i == len(self.layers) - 1 and y.requires_grad:
                cut.masks.watch(y)
            if extra_outputs:
                router_outputs.give(state.router_outputs, self._calls.counts, extra_outputs)
            return (y,) if self._calls.returns_tuple else y
        return run

    @property
    def last(self):
        """Times of the last whole step: seconds from begin to end, seconds that compute waited, bytes out and in."""
        return self._session.last if self._session else None

    @property
    def checked(self):
        """Check mode's report of the plan's first step: accesses, conflicts (all ordered by events), poisoned bytes."""
        return self._checks.get(self._open) or (self._session.check if self._session else None)

    @property
    def account(self):
        """Bytes on the device in a step of `plan`'s length, known before it: weights, gradients, moments, around layers, plan.
        What an optimizer needs while it steps, besides AdamW's moments, is not in it."""
        plan = self.plan.describe()
        return self._planning.account.of(plan["context"]) | {"plan": plan["device_peak"]}

    @property
    def device_peak(self):
        """Bytes of the plan's memory that steps have touched."""
        return self._session.device_peak if self._session else 0

    @property
    def departures(self):
        """The number of departures from the plan, and descriptions of the first ones."""
        return self._session.departures if self._session else (0, [])


class _Unplanned(Exception):
    """A layer's allocations departed from its plan, and another plan allows for that."""


class _ModelsOwn(Exception):
    """A step that the model's own code must run."""


class _LayerStep:
    """One layer's forward and backward in one step."""

    def __init__(self, planning, session, state, layer, name, seed, leaves):
        self.planning, self.session, self.state, self.layer, self.name = planning, session, state, layer, name
        self.seed, self.leaves, self.step, self.look = seed, leaves, None, None

    def forward(self, hidden):
        with self.planning.around(self.state, self.layer, leaves=self.leaves):
            y, extra_outputs = self.session.forward(self.layer, hidden.detach().reshape(-1, hidden.shape[-1]), self.seed)
        self.step = self.session.step
        if self.layer == len(self.planning.layers) - 1:
            self.look = self.planning.look_within_step()
        return y.view(hidden.shape), *extra_outputs

    def backward(self, d, d_extra_outputs):
        if self.session.step != self.step:
            raise RuntimeError("memo: the model ran forward again before backward; one step at a time")
        if self.look is not None and self.look != self.planning.look_within_step():
            raise RuntimeError("memo: layers were changed between forward and backward (modules, adapters, modes, settings); "
                               "what is computed again would not be what forward computed")
        try:
            with self.planning.around(self.state, self.layer, leaves=self.leaves), layers.noted(self.name):
                d_hidden, gradients = self.session.backward(self.layer, d.reshape(-1, d.shape[-1]), d_extra_outputs, self.leaves)
        except (_core.BadInput, _core.Failed) as error:
            raise RuntimeError(f"{self.name}: {error}") from None
        return d_hidden.view(d.shape), gradients


class _Layer(torch.autograd.Function):
    @staticmethod
    def forward(ctx, step, hidden, *parameters):
        ctx.step = step
        return step.forward(hidden)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, d, *d_extra_outputs):
        d_hidden, gradients = ctx.step.backward(d, list(d_extra_outputs))
        return None, d_hidden, *gradients
