"""Finds the keys that each query sees, by a mask that is a function of indices or a tensor of tokens x tokens; and expresses them
as documents, a window and hidden keys for Memo's attention (memo/libtorch/kernels/attention_mask.h)."""

import dataclasses

import torch

from memo.errors import UnsupportedModel

_ALL_PAIRS = 1 << 20  # up to this number of pairs, every pair is checked
_LOOKS = 32  # otherwise, this number of keys of each query
_LEAST = -1e4  # masks add at most this to scores of hidden keys


@dataclasses.dataclass
class Sight:
    """Query q of a row sees keys [first[q], q], except hidden ones; blind queries see none. All [batch, tokens]. even: a query
    that sees no key attends evenly to its whole row; otherwise its attention is 0."""

    first: torch.Tensor
    hidden: torch.Tensor | None = None
    blind: torch.Tensor | None = None
    even: bool = False


def causal(batch, tokens, device) -> torch.Tensor:
    return torch.zeros(batch, tokens, dtype=torch.long, device=device)


def of_function(function, vmap, batch, tokens, device, looks=_LOOKS) -> torch.Tensor:
    """The first key that each query sees, [batch, tokens], by a mask function (batch, head, query, key) -> whether it is seen.
    Refuses a function by which a query sees other keys than a range that ends at itself. vmap: the function takes single indices.
    looks: the number of keys of each query to check, besides the ends of its range."""
    row = torch.arange(batch, device=device).repeat_interleave(tokens)
    query = torch.arange(tokens, device=device).repeat(batch)
    head = torch.zeros((), dtype=torch.long, device=device)

    def sees(rows, queries, keys):
        if not vmap:
            return function(rows, head, queries, keys).expand(queries.shape)
        from torch._dynamo._trace_wrapped_higher_order_op import TransformGetItemToIndex

        with TransformGetItemToIndex():
            return torch.vmap(function, in_dims=(0, None, 0, 0))(rows, head, queries, keys)

    low, high = torch.zeros_like(query), query
    for _ in range(tokens.bit_length()):
        middle = (low + high) // 2
        seen = sees(row, query, middle)
        low, high = torch.where(seen, low, torch.minimum(middle + 1, high)), torch.where(seen, middle, high)
    first = high

    def verify(rows, queries, keys):
        index = rows * tokens + queries
        wrong = sees(rows, queries, keys) != ((keys >= first[index]) & (keys <= queries))
        if bool(wrong.any()):
            at = int(wrong.nonzero()[0])
            _refuse(int(rows[at]), int(queries[at]), int(keys[at]), int(keys[at]) > int(queries[at]))

    if batch * tokens * tokens <= _ALL_PAIRS:
        verify(row.repeat_interleave(tokens), query.repeat_interleave(tokens),
               torch.arange(tokens, device=device).repeat(batch * tokens))
    else:
        last = torch.full_like(query, tokens - 1)
        for key in (query, first, (first - 1).clamp_min(0), torch.minimum(query + 1, last), torch.zeros_like(query), last):
            verify(row, query, key)
        random = torch.Generator(device=device).manual_seed(0)
        for look in range(looks):
            share = torch.rand(query.shape, generator=random, device=device, dtype=torch.float64)
            within = (first + share * (query - first + 1)).long()
            verify(row, query, within if look % 2 else (share * tokens).long())
    _check_order(first.view(batch, tokens))
    return first.view(batch, tokens)


def of_tensor(mask, batch, tokens, implementation) -> Sight:
    """The Sight of a mask [1 or batch, 1 or heads, tokens, tokens], boolean or added to the scores, for this attention
    implementation of transformers (None: any)."""
    if mask.dim() != 4 or mask.shape[0] not in (1, batch) or mask.shape[2:] != (tokens, tokens):
        raise UnsupportedModel(f"an attention mask of shape {tuple(mask.shape)} for {batch} rows of {tokens} tokens")
    if not bool((mask == mask[:, :1]).all()):
        raise UnsupportedModel("an attention mask that differs from head to head")
    mask = mask[:, 0]
    if mask.dtype == torch.bool:
        if implementation == "eager":
            raise UnsupportedModel("a boolean attention mask of four dimensions, which eager attention adds to the scores as 0 "
                                   "and 1")
        seen = mask
    elif mask.is_floating_point():
        seen = mask == 0
        if not bool((seen | (mask <= _LEAST)).all()):
            raise UnsupportedModel("an attention mask that adds to the scores of keys that are seen")
    else:
        raise UnsupportedModel(f"an attention mask of four dimensions and of {mask.dtype}; boolean or floating")
    hidden, blind = ~seen.any(1), ~seen.any(2)
    even = False
    if mask.is_floating_point() and bool(blind.any()):
        # For such queries, eager attention computes NaN with -inf; with other numbers, the gradients of torch's fused attention
        # do not belong to its forward.
        even = implementation == "eager"
        least, called = (torch.finfo(mask.dtype).min, f"torch.finfo({mask.dtype}).min") if even else (-torch.inf, "-inf")
        if not bool((mask[blind] == least).all()):
            raise UnsupportedModel(f"an attention mask by which a token sees no key, and whose values are not all {called} there")
    key = torch.arange(tokens, device=mask.device)
    first = torch.where(blind, key, seen.to(torch.uint8).argmax(2))
    wrong = seen != ((key >= first[..., None]) & (key <= key[:, None]) & ~hidden[:, None] & ~blind[..., None])
    if bool(wrong.any()):
        row, query, at = (int(i) for i in wrong.nonzero()[0])
        _refuse(row, query, at, at > query)
    return Sight(*(each.expand(batch, tokens) for each in (first, hidden, blind)), even)


def _refuse(row, query, key, behind):
    raise UnsupportedModel(f"an attention mask by which token {query} of row {row} sees token {key}, behind it" if behind else
                           f"an attention mask by which what token {query} of row {row} sees is not all tokens of a range that "
                           f"ends at itself: token {key}")


def _check_order(first):
    back = (first[:, 1:] < first[:, :-1]).nonzero()
    if len(back):
        row, query = (int(i) for i in back[0])
        raise UnsupportedModel(f"an attention mask by which token {query + 1} of row {row} sees tokens that the one before it "
                               "does not see any more")


def documents_and_window(sight: Sight) -> tuple[list[int], int, torch.Tensor]:
    """First tokens of documents, the window (0: none), and which queries see no key, [batch * tokens], where rows lie one after
    another. A document begins where padding ends."""
    batch, tokens = sight.first.shape
    count, device = batch * tokens, sight.first.device
    query = torch.arange(count, device=device)
    begins = query % tokens == 0
    seen = ~sight.hidden.flatten() if sight.hidden is not None else torch.ones(count, dtype=torch.bool, device=device)
    behind = torch.cat([torch.where(seen, query, count), query.new_full((1,), count)]).flip(0).cummin(0).values.flip(0)
    first = behind[sight.first.flatten() + query // tokens * tokens]
    blind = first > query
    if sight.blind is not None:
        blind = blind | sight.blind.flatten()
    sighted = ~blind
    document_starts, window = begins | (first == query) & sighted, 0
    for _ in range(2):
        document = torch.where(document_starts, query, 0).cummax(0).values
        limited = sighted & (first != behind[document])
        low = document
        if bool(limited.any()):
            window = int((query + 1 - first)[sighted].max())
            low = torch.maximum(document, query - window + 1)
        wrong = torch.where(blind, behind[low] <= query, behind[low] != first)
        if not bool(wrong.any()):
            return document_starts.nonzero().flatten().tolist(), window, blind
        # Padding behind tokens is a document of its own, if its queries see no key.
        document_starts = document_starts | wrong & blind & ~seen
    row, at = divmod(int(wrong.nonzero()[0]), tokens)
    raise UnsupportedModel(f"an attention mask that is no documents, window and padding: token {at} of row {row}")
