"""Translates the attention masks of a step into masks of Memo's attention (memo/libtorch/kernels/attention_mask.h). The model's
code makes them by transformers' mask functions, or they are arguments. Only the mask decides, never the arguments beside it."""

import contextlib
import functools

import torch

from memo import _core
from memo.errors import UnsupportedModel
from memo.visibility import Sight, causal, documents_and_window, of_function, of_tensor

_instead_of = None  # the model's own attention implementation, while ours replaces it


@contextlib.contextmanager
def instead_of(implementation: str, packing: bool):
    """Within, our attention replaces this implementation of transformers. packing: whether positions determine documents, as in
    a call of the plain model without a cache."""
    global _instead_of
    from transformers import masking_utils

    before, find = _instead_of, masking_utils.find_packed_sequence_indices
    _instead_of = implementation
    masking_utils.find_packed_sequence_indices = functools.partial(_documents_of, getattr(find, "args", (find,))[0], packing)
    try:
        yield
    finally:
        _instead_of, masking_utils.find_packed_sequence_indices = before, find


@contextlib.contextmanager
def suspended():
    """Within, an outer `instead_of` has no effect."""
    global _instead_of
    if _instead_of is None:
        yield
        return
    from transformers import masking_utils

    inside, find, _instead_of = _instead_of, masking_utils.find_packed_sequence_indices, None
    masking_utils.find_packed_sequence_indices = getattr(find, "args", (find,))[0]
    try:
        yield
    finally:
        _instead_of, masking_utils.find_packed_sequence_indices = inside, find


def _documents_of(find, packing, position_ids):
    return find(position_ids) if packing else None


def of_transformers() -> bool:
    """Whether an argument called attention_mask is a mask of transformers."""
    return _instead_of is not None


def of_flash() -> bool:
    """Whether the model's own attention is flash attention, which has padding, window and documents as arguments, not masks."""
    return _instead_of is not None and "flash" in _instead_of


class Mask(torch.Tensor):
    """A tensor without values that the model's code passes on in place of a mask [batch, 1, tokens, tokens]."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, shape, dtype, device, read):
        self = torch.Tensor._make_wrapper_subclass(cls, shape, dtype=dtype, device=device)
        self.read = read  # number of tokens -> Sight
        return self

    @classmethod
    def __torch_dispatch__(cls, operation, types, args=(), kwargs=None):
        raise UnsupportedModel(f"memo: the model's own code computes with its attention mask ({operation}): a mask that goes to "
                               "attention as it was made is possible")

    def __repr__(self):
        return f"Mask({tuple(self.shape)})"


def interface(batch_size, q_length, kv_length, q_offset=0, kv_offset=0, mask_function=None, attention_mask=None,
              local_size=None, allow_is_causal_skip=True, use_vmap=False, dtype=torch.float32, device="cpu", **kwargs):
    """transformers' AttentionMaskInterface. Returns None if each row is causal."""
    padding = attention_mask
    if q_length != kv_length or padding is not None and tuple(padding.shape) != (batch_size, q_length):
        shape = (batch_size, kv_length) if padding is None else tuple(padding.shape)
        raise UnsupportedModel(f"memo: an attention mask of shape {shape} for {batch_size} rows of {q_length} tokens")
    if padding is not None and bool(padding.all()):
        padding = None
    flash, even = of_flash(), _instead_of == "eager"
    rows_are_causal = flash or allow_is_causal_skip and local_size is None
    if rows_are_causal and padding is None:
        return None
    hidden = None if padding is None else ~padding

    def read(tokens):
        # A mask function that transformers allows to skip is its own: causal up to `local_size` tokens, then window or chunks.
        if rows_are_causal or allow_is_causal_skip and tokens < local_size:
            first = causal(batch_size, tokens, device)
        else:
            looks = dict(looks=0) if allow_is_causal_skip else {}
            first = of_function(mask_function, use_vmap, batch_size, tokens, device, **looks)
        return Sight(first, hidden, hidden if flash else None, even)

    return Mask((batch_size, 1, q_length, kv_length), dtype if even else torch.bool, device, read)


class Masks:
    """The masks of a step. Its rows, batch x length, lie one after another; tokens from there up to `context` are not seen by any
    query. ranks: their number, if a row is split over them."""

    def __init__(self, batch: int, length: int, context: int, ranks: int = 1, apart: bool = True):
        self.batch, self.length, self.context, self.ranks = batch, length, context, ranks
        self._padding = {batch * length} if batch * length < context and apart else set()  # behind all: its own document
        self._tensors, self._cores = {}, {}  # by id; the entries keep the objects alive
        self.unsure = None  # [batch * length]: tokens whose attention on a GPU differs from the model's
        self.read(None)

    def of(self, given: torch.Tensor) -> Mask:
        """The Mask for a tensor that was given as a mask."""
        if isinstance(given, Mask):
            return given
        if not isinstance(given, torch.Tensor):
            raise UnsupportedModel(f"an attention mask that is a {type(given).__name__}; tensors are possible")
        if id(given) not in self._tensors:
            implementation = _instead_of
            read = lambda tokens: of_tensor(given, self.batch, tokens, implementation)
            self._tensors[id(given)] = given, Mask(given.shape, given.dtype, given.device, read)
        return self._tensors[id(given)][1]

    def read(self, mask: Mask | None, documents=()) -> None:
        """Translates the mask ahead of attention, since within a layer's calls every allocation is planned. documents: further
        first tokens of documents."""
        if id(mask) in self._cores and not documents:
            return
        count, row, apart = self.batch * self.length, 0, "a split sequence is one document: no padding, packing or second row"
        if mask is None:
            document_starts, window, hidden = range(0, count, self.length), 0, None
        else:
            sight = mask.read(self.length * self.ranks)
            if self.ranks > 1 and sight.hidden is not None:
                raise ValueError(apart)
            document_starts, window, blind = documents_and_window(sight)
            hidden = sight.hidden.flatten() if sight.hidden is not None and bool(sight.hidden.any()) else None
            row = self.length if sight.even and bool(blind.any()) else 0
            if hidden is not None and mask.device.type == "cuda":
                self._check_gpu(document_starts, hidden, blind)
        document_starts = {*document_starts, *documents} | self._padding
        document_starts = sorted(document_starts) if len(document_starts) > 1 else []
        if self.ranks > 1 and document_starts:
            raise ValueError(apart)
        core = _core.Mask(document_starts=document_starts, window=window, hidden=hidden, row=row)
        self._cores[id(mask)] = mask, {0: core, window: core}

    def core(self, mask: Mask | None, window: int) -> _core.Mask:
        """The translated mask, with a further window (0: none) that attention has as an argument."""
        cores = self._cores[id(mask)][1]
        if window not in cores:
            cores[window] = cores[0].with_window(min(window, cores[0].window or window))
        return cores[window]

    def watch(self, hidden) -> None:
        """Checks by a hook on the last layer's output that no loss depends on tokens whose attention differs from the model's."""
        def check(gradient):
            if bool(gradient.reshape(len(self.unsure), -1)[self.unsure].any()):
                raise ValueError("a loss of tokens of padding behind a row's tokens, on a GPU: set their labels to -100")
        if self.unsure is not None:
            hidden.register_hook(check)

    def _check_gpu(self, document_starts, hidden, blind):
        """Flash attention takes documents and a window, so padding must lie before or behind a document's tokens."""
        count = len(hidden)
        query = torch.arange(count, device=hidden.device)
        ends = torch.full_like(query, count)
        begins = torch.tensor(document_starts[1:], device=query.device, dtype=torch.long)
        ends[begins - 1] = begins
        ends = ends.flip(0).cummin(0).values.flip(0)
        next_seen = torch.where(hidden, count, query).flip(0).cummin(0).values.flip(0)
        if bool((hidden & (next_seen < ends)).any()):
            raise UnsupportedModel("padding between the tokens of a row, on a GPU")
        self.unsure = hidden & ~blind
