"""The decoder layers of a model in the form that the executor calls (memo/plugin/layer_calls.h)."""

import collections
import contextlib
import contextvars
import functools
import inspect

import torch

from memo import _core, autocast, devices, ranks, router_outputs
from memo.block_greenlet import BlockGreenlet
from memo.documents import of_flash_arguments
from memo.errors import UnsupportedModel
from memo.masks import Mask, Masks, of_transformers

_CACHES = ("past_key_values", "past_key_value", "layer_past")
_DOCUMENTS = ("cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k")  # for attention


@contextlib.contextmanager
def named(layer_name):
    """Raises a failure of the executor again as one of the layer, by its name."""
    try:
        yield
    except (_core.BadInput, _core.Failed) as error:
        text = str(error)
        if isinstance(error, _core.BadInput) and not text.startswith("layer 0: "):
            raise
        text = text.removeprefix("layer 0: ").removeprefix("UnsupportedModel: ").removeprefix(layer_name).strip()
        if "through the graph a second time" in text:
            text = "behind attention a tensor goes on, with its graph, from before attention"
        raise UnsupportedModel(f"{layer_name}: {text}") from None


@contextlib.contextmanager
def whole(layer):
    """Within, a layer of fully_shard has its parameters gathered. All ranks must enter at the same time."""
    sharded = hasattr(layer, "unshard")
    if sharded:
        layer.unshard()
    try:
        yield
    finally:
        if sharded:
            layer.reshard()


@contextlib.contextmanager
def noted(layer_name):
    """Lets an exception of a layer's own code pass unchanged, with a note of the layer."""
    try:
        yield
    except BaseException as error:
        if hasattr(error, "add_note") and not any(layer_name in note for note in getattr(error, "__notes__", ())):
            error.add_note(f"memo: in {layer_name}, which runs by token blocks")
        raise


@functools.lru_cache(maxsize=64)
def _signature(forward):
    return inspect.signature(inspect.unwrap(forward))


def hidden_of(layer, args, kwargs):
    """Separates a layer's hidden states from its other arguments, whether they were given by name or not."""
    if args:
        return args[0], args[1:], kwargs
    first = list(_signature(type(layer).forward).parameters)[1]
    return kwargs[first], (), {name: value for name, value in kwargs.items() if name != first}


def arguments(layer, args, kwargs):
    """A layer's arguments by name, without its hidden states and caches."""
    bound = _signature(type(layer).forward).bind_partial(layer, None, *args, **kwargs)
    named = dict(bound.arguments)
    named.pop("self", None)
    named.pop(next(iter(named)), None)  # hidden states
    named.update(named.pop("kwargs", {}))
    for name in _CACHES:
        if name in named:
            named[name] = None
    if "use_cache" in named:
        named["use_cache"] = False
    return named


class Arguments:
    """The layers' arguments besides hidden states, cut into blocks: once for all layers that get the same ones."""

    def __init__(self, batch: int, length: int, context: int, block: int, group=None, apart=True):
        """apart: whether attention may be of several documents."""
        self.batch, self.length, self.context, self.block = batch, length, context, block
        self.masks = Masks(batch, length, context, ranks.count(group), apart)
        self._cut = {}

    def blocks(self, layer_name: str, named: dict) -> list[dict]:
        """Arguments of each block: its rows of tensors with a row for each token; other arguments, also masks, whole."""
        cut, count = {}, self.context // self.block
        self.masks.read(None, of_flash_arguments(self.batch, self.length, named))
        for name, value in named.items():
            if name in _DOCUMENTS:
                value = None
            if isinstance(value, Mask) or name == "attention_mask" and value is not None and (
                    of_transformers() or isinstance(value, torch.Tensor) and value.dim() == 4):
                try:
                    value = self.masks.of(value)
                    self.masks.read(value)
                except UnsupportedModel as error:
                    raise UnsupportedModel(f"{layer_name}: {error}") from None
                cut[name] = [value] * count
            elif isinstance(value, torch.Tensor) and value.dim() > 0 or (isinstance(value, tuple) and any(
                    isinstance(part, torch.Tensor) for part in value)):
                cut[name] = self._blocks_of(layer_name, name, value)
            else:
                cut[name] = [value] * count
        return [{name: values[b] for name, values in cut.items()} for b in range(count)]

    def _blocks_of(self, layer_name, name, value):
        key = tuple(id(part) for part in value) if isinstance(value, tuple) else id(value)
        if key not in self._cut:
            parts = [self._rows(layer_name, name, part) for part in (value if isinstance(value, tuple) else (value,))]
            rows = [tuple(part[:, begin:begin + self.block] for part in parts)
                    for begin in range(0, self.context, self.block)]
            self._cut[key] = (value, rows if isinstance(value, tuple) else [row[0] for row in rows])  # keeps the id
        return self._cut[key][1]

    def _rows(self, layer_name, name, tensor):
        if tensor.dim() < 2 or tensor.shape[1] != self.length or tensor.shape[0] not in (1, self.batch):
            raise UnsupportedModel(f"{layer_name}: argument {name} of shape {tuple(tensor.shape)} has no row a token")
        rows = tensor.expand(self.batch, *tensor.shape[1:]).reshape(1, self.batch * self.length, *tensor.shape[2:])
        missing = self.context - rows.shape[1]
        if missing > 0:
            rows = torch.cat([rows, rows[:, -1:].expand(1, missing, *rows.shape[2:])], 1)
        return rows


class Leaves:
    """A layer's parameters while blocks run: a parameter with hooks is replaced by another tensor over the same memory, since
    its hooks must run once, for the whole gradient, and not for each block's."""

    def __init__(self, layer):
        self.wanted, self._swapped = [], []
        for module in layer.modules():
            for name, p in module._parameters.items():
                if p is not None and p._backward_hooks:
                    self._swapped.append((module._parameters, name, p, p.detach().requires_grad_(p.requires_grad)))
        others = {id(p): alias for _, _, p, alias in self._swapped}
        self.wanted = [others.get(id(p), p) for p in layer.parameters() if p.requires_grad]

    def __enter__(self):
        for parameters, name, _, alias in self._swapped:
            parameters[name] = alias

    def __exit__(self, *_):
        for parameters, name, p, _ in self._swapped:
            parameters[name] = p


class Calls:
    """The object that the executor calls (memo/plugin/layer_calls.h). `set` gives it a layer's arguments in a step."""

    def __init__(self, names, layers, forwards, heads=None, group=None):
        """heads: (heads, columns) of each layer's queries, keys and values; None: any."""
        self.names, self.layers, self._forwards, self._heads, self._group = names, layers, forwards, heads, group
        self.ranks = ranks.count(group)
        self._arguments, self._masks, self._leaves = ([None] * len(layers) for _ in range(3))
        self._waiting = {}
        self._exchanges = collections.deque()
        self._keys = ()
        self.returns_tuple = False
        self.counts = []  # numbers of the last block's extra outputs, by key

    def set(self, layer: int, blocks: list[dict], masks: Masks):
        self._arguments[layer], self._masks[layer], self._leaves[layer] = blocks, masks, Leaves(self.layers[layer])

    def leaves(self, layer: int) -> list:
        """The layer's trained parameters, in the form that blocks use."""
        return self._leaves[layer].wanted

    def collect(self, keys):
        """Sets the keys that the model's own hooks collect from inside of layers in this step (memo/router_outputs.py)."""
        self._keys = keys

    def before(self, layer, block, x):
        given = self._arguments[layer][block]
        if (layer, block) in self._waiting:
            self._waiting.pop((layer, block)).end()
        waiting = BlockGreenlet(lambda hidden: self._forwards[layer](hidden, **given))
        waiting.tokens = (layer, block * x.shape[0], (block + 1) * x.shape[0])
        waiting.gr_context = contextvars.copy_context()
        waiting.router_outputs = router_outputs.apart(waiting.gr_context, self._keys)
        came = self._switch(layer, waiting, x)
        if waiting.dead:
            raise UnsupportedModel(f"{self.names[layer]} does not call its attention by transformers' interface")
        query, key, value, softcap, window, mask = came
        self._check_shapes(layer, query, key, value)
        dtype = autocast.of_attention(autocast.state(x.device.type), x.dtype)
        devices.check_attention(self.names[layer], x.device.type, dtype, softcap, query.shape[-1])
        self._waiting[layer, block] = waiting
        return query[0], key[0], value[0], softcap or 0.0, self._masks[layer].core(mask, window or 0)

    def _switch(self, layer, block, rows):
        try:
            with noted(self.names[layer]), self._leaves[layer]:
                return block.switch(rows.unsqueeze(0))
        except UnsupportedModel as error:
            raise UnsupportedModel(f"{self.names[layer]}: {str(error).removeprefix('memo: ')}") from None

    def _check_shapes(self, layer, query, key, value):
        shapes = [tuple(t.shape[1::2]) for t in (query, key, value)]
        if self._heads and shapes != self._heads:
            raise UnsupportedModel(f"{self.names[layer]}: its queries, keys and values have {shapes} (heads, columns); "
                                   f"{self._heads} was expected of all layers")

    def after(self, layer, block, o):
        waiting = self._waiting.pop((layer, block))
        y = self._switch(layer, waiting, o)
        if not waiting.dead:
            waiting.end()
            raise UnsupportedModel(f"{self.names[layer]} calls attention twice")
        self.returns_tuple = isinstance(y, tuple)
        if self.returns_tuple:
            if any(isinstance(part, torch.Tensor) for part in y[1:]):
                raise UnsupportedModel(f"{self.names[layer]} returns more than hidden states")
            y = y[0]
        if y.shape[:-1] != (1, o.shape[0]):
            raise UnsupportedModel(f"{self.names[layer]} changes the shape of its hidden states")
        self.counts = [len(tensors) for tensors in waiting.router_outputs.values()]
        return y[0], [router_outputs.rows(self.names[layer], tensor, y.shape[1])
                      for tensors in waiting.router_outputs.values() for tensor in tensors]

    def begin_exchange(self, out, given):
        self._exchanges.append(torch.distributed.all_to_all_single(out, given, group=self._group, async_op=True))

    def end_exchange(self):
        self._exchanges.popleft().wait()

    def forget(self):
        while self._exchanges:  # the step has failed, perhaps because of an exchange
            with contextlib.suppress(RuntimeError):
                self.end_exchange()
        while self._waiting:
            self._waiting.popitem()[1].end()
