"""Which tokens of a batch belong together, when its rows lie one behind the other."""

import torch

from memo.errors import UnsupportedModel


def document_starts(batch, length, context, mask, positions, ends=None) -> list[int]:
    """First tokens of rows that do not see each other, ascending from 0; none when all is one document.

    batch x length tokens, then up to `context` tokens that nobody sees. mask: [batch, length], 0 where padding is, or
    None. positions: [1 or batch, length]; where they do not go on, another document begins, unless there is a mask. ends: where
    documents end, in tokens of the whole batch (cu_seq_lens), or None.
    """
    starts = {row * length for row in range(batch)}
    if batch * length < context:
        starts.add(batch * length)
    if ends is not None:
        starts.update(end for end in ends.tolist() if end < batch * length)
    if mask is not None:
        if mask.dim() != 2 or tuple(mask.shape) != (batch, length):
            raise UnsupportedModel(f"an attention mask of shape {tuple(mask.shape)}; masks [batch, tokens] of padding are "
                                   "possible")
        mask = mask.bool()
        begins = mask & ~torch.nn.functional.pad(mask, (1, 0))[:, :-1]
        if bool((begins.sum(1) > 1).any()):
            raise UnsupportedModel("padding between the tokens of a row")
        starts.update((begins.flatten().nonzero().flatten()).tolist())
    elif positions is not None and positions.dim() == 2:
        rows = positions.expand(batch, length)
        goes_on = rows[:, 1:] == rows[:, :-1] + 1
        new = torch.nn.functional.pad(~goes_on, (1, 0), value=False)
        starts.update(new.flatten().nonzero().flatten().tolist())
    return sorted(starts) if len(starts) > 1 else []
