"""Makes and keeps plans of a model's layers in their present state, from profiles of each kind of layer."""

import collections
import contextlib
import itertools
import typing
import warnings

from memo import _core, autocast, checking, devices, kinds, layers, ranks, router_outputs
from memo.account import Account
from memo.look import look

_PROFILED = 2048  # tokens of the profile's longest run, about
_LENGTHS = sorted({m << e for m in (2, 3) for e in range(40)} | {1})  # numbers of blocks that get plans; other lengths share them
_LEAST_BLOCK = 128  # tokens, where larger ones do not fit
_NO_TIER = dict(host_limit=0, disk=None, disk_limit=0)
_KEPT = 4  # number of states whose profiles are kept


class NothingFits(ValueError):
    """No plan fits in the limits."""


class State(typing.NamedTuple):
    """Everything besides their input that decides what layers allocate."""

    version: int           # of the layers (memo/look.py)
    dtype: object          # of autocast, or None
    router_outputs: tuple  # keys of outputs that are collected from inside of layers (memo/router_outputs.py)
    forward_layers: int    # number of first layers that need no gradients


class Planning:
    """The plans of one attached model, by length and State."""

    def __init__(self, kind, context, block, device_limit, host_limit, disk, disk_limit, strategy, head_groups, group, check,
                 attention):
        if not isinstance(context, int) or context < 1:
            raise ValueError(f"context = {context!r}: write a number of tokens")
        if strategy not in _core.strategies():
            raise ValueError(f"strategy = {strategy!r}: one of {', '.join(_core.strategies())}")
        self.kind, self.strategy, self._checks = kind, strategy, check
        if block != "auto" and (not isinstance(block, int) or block < 1):
            raise ValueError(f"block = {block!r}: write a number of tokens, or \"auto\"")
        self.context, self._auto, self.group, self.head_groups = context, block == "auto", group, head_groups
        self.attention, self._kernels = attention, {}  # kernels of attention that were chosen: a model keeps them
        self.head = None
        self._memory = dict(host_limit=host_limit, disk=str(disk) if disk is not None else None, disk_limit=disk_limit)
        self._looks, self._look = {}, None
        self._kinds, self._profilers, self._plans = collections.OrderedDict(), {}, {}
        self.account = Account(self, device_limit)
        self.own_forward = lambda layer: layer.forward  # below attaching's patch
        self.look_again()
        self.account.begin()
        blocks = [block] if block != "auto" else _core.blocks(self.device, context)
        self._take_block(blocks[-1])
        if not device_limit and (room := self.account.room()):
            self.account.limit = room
            warnings.warn(f"memo: device_limit = {_core.format_bytes(room)}: what {self.device} has free, less a reserve, and "
                          "what the model holds already", stacklevel=4)
        with devices.same_random(self.device):
            self.head = kind.head()
        self._take_block(self.block)
        state = self.state_before_steps()
        self.router_outputs = self.kinds_of(state).router_outputs
        if self.router_outputs:  # they became known by this run
            self._kinds[state._replace(router_outputs=self.router_outputs)] = self._kinds.pop(state)
        if len(blocks) > 1:
            self._take_block(self._best_block(blocks))

    def _take_block(self, block):
        self.block, self.blocks = block, -(-self.context // block)
        self._profilers, self._plans = {}, {}
        self.account.forget()
        if self.head and self.device.type != "cpu":
            self.head.tile = block

    def _best_block(self, blocks):
        """The best of several sizes by time, of those that there is memory for."""
        state, times = self.state_before_steps(), {}
        found = self.kinds_of(state)
        for block in blocks:
            try:
                times[block] = self._new_profiler(state, found, block, None, _NO_TIER)[0].seconds_per_token
            except ValueError:  # out of memory
                if not times:
                    raise
                break
        return ranks.of_first(self.group, _core.best_block(times))

    def first_plan(self):
        """The plan for the attached context. Where nothing fits and the block is left to Memo, takes smaller ones."""
        while True:
            try:
                return self.plan_of(self.state_before_steps(), self.blocks)
            except NothingFits:
                if not self._auto or self.block // 2 < _LEAST_BLOCK:
                    raise
                self._take_block(self.block // 2)

    # ---- the model as it is now

    def look_again(self) -> bool:
        """Whether the layers have changed since the last look; `state_now` then has another version."""
        if self._look_now() == self._look:
            return False
        self.kind.find_layers()
        there = next((p.device for layer in self.kind.layers for p in layer.parameters()), None)
        if self._look is not None and there not in (None, self.device):
            raise ValueError(f"the model was moved from {self.device} to {there}; attach it there")
        self.layers = self.kind.layers
        self.names = [f"{self.kind.name}.{i} ({type(layer).__name__})" for i, layer in enumerate(self.layers)]
        self.device = devices.of(self.names, self.layers)
        self._check_heads()
        self._look = self._look_now()
        self.version = self._looks.setdefault(self._look, len(self._looks))
        return True

    def _look_now(self):
        return look(self.kind.layers_now(), self.kind.configs)

    def _check_heads(self):
        head_groups, count = self.head_groups, ranks.count(self.group)
        if not isinstance(head_groups, int) or head_groups < 1 or self.kind.kv_heads % head_groups:
            raise ValueError(f"head_groups = {head_groups!r}: a divisor of the {self.kind.kv_heads} key heads")
        heads, keys = self.kind.heads // head_groups, self.kind.kv_heads // head_groups
        if heads % count or (keys % count and count % keys):
            raise ValueError(f"sequence_group: its {count} ranks do not divide the {heads} heads and {keys} key heads of a head "
                             "group")

    @property
    def heads(self):
        """(heads, columns) of queries, keys and values."""
        kind = self.kind
        return [(kind.heads, kind.head_dim), (kind.kv_heads, kind.head_dim), (kind.kv_heads, kind.head_dim)]

    def heads_are(self, query, key):
        """Sets the heads by what reached attention: (heads, columns) of query and key."""
        self.kind.heads, self.kind.kv_heads, self.kind.head_dim = query[0], key[0], query[1]
        self._check_heads()

    def parameters(self, layer):
        return [p for p in self.layers[layer].parameters() if p.requires_grad]

    def forward_layers(self, hidden_trains):
        """The number of first layers that need no gradients, neither of parameters nor of hidden states."""
        if hidden_trains:
            return 0
        return next((i for i in range(len(self.layers)) if self.parameters(i)), len(self.layers))

    def trains(self) -> bool:
        """Whether a step is expected to need any gradients of layers."""
        return self.forward_layers(self.kind.inputs_train()) < len(self.layers)

    def state_now(self, hidden_trains) -> State:
        return State(self.version, autocast.state(self.device.type), router_outputs.wanted(), self.forward_layers(hidden_trains))

    def state_before_steps(self) -> State:
        """The State of expected steps: their hidden states need gradients if the embeddings do."""
        forward_layers = self.forward_layers(self.kind.inputs_train())
        return State(self.version, autocast.state(self.device.type), getattr(self, "router_outputs", ()),
                     forward_layers if forward_layers < len(self.layers) else 0)

    @contextlib.contextmanager
    def around(self, state, *numbers, leaves=()):
        """The context in which calls of these layers run. leaves: their parameters while blocks run (layers.Leaves)."""
        parameters = itertools.chain(leaves, *(self.layers[i].parameters() for i in numbers))
        with self.kind.our_attention(), autocast.around(self.device.type, state.dtype, parameters):
            yield

    def in_backward(self, state, numbers, work, leaves=()):
        """Runs `work` in the context of these layers' calls, on backward's thread, and returns its result."""
        def run():
            with self.around(state, *numbers, leaves=leaves), layers.named(self.names[numbers[0]]):
                return work()
        return devices.in_backward(self.device, run)

    @contextlib.contextmanager
    def whole(self, examples):
        """Within, parameters of these layers that are sharded over ranks are gathered."""
        with contextlib.ExitStack() as gathered:
            for one in examples:
                gathered.enter_context(layers.whole(self.layers[one.layer]))
            yield

    # ---- kinds of layers

    def options(self, state, block, kinds, data_dependent, windows, forward_layers, hidden, limits=None):
        return _core.LayerOptions(
            model=f"{type(self.kind.model).__name__} {len(self.layers)} x {self.kind.hidden_size}",
            hidden_size=self.kind.hidden_size, heads=self.kind.heads, kv_heads=self.kind.kv_heads,
            head_dim=self.kind.head_dim, groups=self.head_groups, block=block,
            kernel="" if self.attention == "auto" else self.attention,
            windows=windows if len(set(windows)) > 1 else [], dtype=hidden.dtype,
            attention=autocast.of_attention(state.dtype, hidden.dtype), kinds=kinds, data_dependent=data_dependent,
            forward_layers=forward_layers, **(limits or self._memory))

    def calls_of(self, examples, state, block, group=None, any_heads=False):
        """Calls of some layers with the arguments of their examples. any_heads: accepts queries, keys and values of any shape."""
        examples = examples if isinstance(examples, list) else [examples]
        chosen = [self.layers[one.layer] for one in examples]
        calls = layers.Calls([self.names[one.layer] for one in examples], chosen, [self.own_forward(layer) for layer in chosen],
                             None if any_heads else self.heads, group)
        for i, one in enumerate(examples):
            tokens = one.hidden.shape[1]
            named = layers.arguments(chosen[i], one.args, one.kwargs)
            context = -(-tokens // block) * block
            cut = layers.Arguments(1, tokens, context, block, apart=self.apart(False, context))
            calls.set(i, cut.blocks(calls.names[i], named), cut.masks)
        calls.collect(state.router_outputs)
        return calls

    def kinds_of(self, state) -> kinds.Kinds:
        if state not in self._kinds:
            tokens = min(self.blocks, max(2, _PROFILED // self.block)) * self.block
            with devices.same_random(self.device), router_outputs.nothing():
                found = kinds.find(self, state, tokens)
                if self._checks:
                    profiler, _ = self._profiler(state._replace(router_outputs=found.router_outputs), found, split=False)
                    checking.check(self, state._replace(router_outputs=found.router_outputs), found, profiler)
            self._kinds[state] = found
            if state.version == self.version:  # layers may set themselves up in their first forward, which is no change
                self._look = self._look_now()
                self._looks[self._look] = self.version
            while len(self._kinds) > _KEPT:
                oldest, _ = self._kinds.popitem(last=False)
                self._profilers = {key: value for key, value in self._profilers.items() if key[0] != oldest}
        self._kinds.move_to_end(state)
        return self._kinds[state]

    # ---- plans

    def _profiler(self, state, found, split=True):
        """The profiler, and its layers' leaves. split: whether the sequence is split over the ranks of the group, if any."""
        group, key = self.group if split else None, (state, split or self.group is None)
        if key not in self._profilers:
            self._profilers[key] = self._new_profiler(state, found, self.block, group, self._memory)
        return self._profilers[key]

    def _new_profiler(self, state, found, block, group, limits):
        examples = found.examples
        options = self.options(state, block, found.of, found.data_dependent, self.kind.windows, state.forward_layers,
                               examples[0].hidden, limits)
        with self.whole(examples):
            calls = self.calls_of(examples, state, block, group)
            leaves = [calls.leaves(i) for i in range(len(examples))]
            all_leaves = list(itertools.chain.from_iterable(leaves))
            make = lambda: _core.Profiler(options, [one.hidden[0] for one in examples], leaves, calls)
            return self.in_backward(state, [one.layer for one in examples], make, all_leaves), all_leaves

    def prepare_profiler(self) -> bool:
        """Makes the profiler of the layers before steps, which holds examples of them; whether they return tuples."""
        state = self.state_before_steps()
        found = self.kinds_of(state)
        self._profiler(state, found)
        return found.returns_tuple

    def give(self, plan):
        """Takes this plan for `context`, in place of making one."""
        is_for, context = plan.describe(), self.blocks * self.block
        if (is_for["context"], is_for["block"]) != (context, self.block):
            raise ValueError(f"plan: it is for {is_for['context']} tokens in blocks of {is_for['block']}, not for {context} in "
                             f"blocks of {self.block}")
        limit = self.account.left(context)
        if limit and is_for["device_peak"] > limit:
            raise ValueError(f"plan: it takes {_core.format_bytes(is_for['device_peak'])}, device_limit leaves "
                             f"{_core.format_bytes(limit)}")
        self._plans[self.state_before_steps(), self.blocks, self.apart(False, context)] = plan

    def blocks_for(self, tokens):
        """The number of blocks of the plan for this many tokens."""
        blocks = -(-tokens // self.block)
        if self.group is None:
            return min(n for n in (*_LENGTHS, self.blocks) if n >= blocks)
        if tokens % self.block:
            raise ValueError(f"{tokens} tokens on this rank: of a split sequence each has whole blocks of {self.block}")
        return blocks

    def apart(self, documents, context) -> bool:
        """Whether attention may be of several documents: whether there are, or it is all the same to the kernels."""
        return documents or not _core.one_document_matters(self.device, self.attention, context)

    def _profile(self, profiler, context, apart):
        key = (_core.one_document_matters(self.device, self.attention, context), apart)
        profile = profiler.profile(context, self._kernels.get(key, self.attention), apart)
        self._kernels.setdefault(key, profile.attention)
        return profile

    def plan_of(self, state, blocks, documents=False):
        apart = self.apart(documents, blocks * self.block)
        if (state, blocks, apart) not in self._plans:
            found = self.kinds_of(state)
            context, (profiler, leaves) = blocks * self.block, self._profiler(state, found)
            outside, limit = self.account.outside(context), self.account.left(context)
            with self.whole(found.examples):
                numbers = [one.layer for one in found.examples]
                profile = self.in_backward(state, numbers, lambda: self._profile(profiler, context, apart), leaves)

            def make():
                try:
                    return _core.make_plan(profile, self.strategy, limit)
                except _core.Infeasible as error:
                    raise NothingFits(f"{error} (besides {_core.format_bytes(outside)} of weights, gradients, moments, hidden "
                                     "states and logits)") from None

            self._plans[state, blocks, apart] = ranks.agreed(self.group, make)
        return self._plans[state, blocks, apart]

    def open(self, state, plan, calls, memory, watch):
        """A session of the plan in this _core.SessionMemory, whose first step may be watched."""
        profiler, _ = self._profiler(state, self.kinds_of(state))
        return profiler.open(plan, calls, memory, self.account.left(plan.describe()["context"]), watch)

    def look_within_step(self) -> tuple:
        """A description of the layers; while it stays equal, they compute as before."""
        with self.kind.own_attention():
            return self._look_now()

    def draws(self, state):
        """Whether layers draw random numbers."""
        return self.kinds_of(state).draws

    def becomes_data_dependent(self, state, layer) -> bool:
        """After a layer's allocations behind its attention departed from the plan: makes later plans leave that part unplanned.
        False if they already do."""
        found = self.kinds_of(state)
        kind = found.of[layer]
        if found.data_dependent[kind]:
            return False
        found.data_dependent[kind] = True
        self._profilers = {key: value for key, value in self._profilers.items() if key[0] != state}
        self._plans = {key: value for key, value in self._plans.items() if key[0] != state}
        return True
