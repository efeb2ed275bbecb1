"""Where a layer is left and entered again: the attention function that transformers calls inside of a block."""

import math

from greenlet import getcurrent, greenlet

NAME = "memo"


class Block(greenlet):
    """A token block on its way through a layer. It is left at the layer's attention, and goes on from there."""


def attention(module, query, key, value, attention_mask=None, dropout=0.0, scaling=None, sliding_window=None,
              softcap=None, **kwargs):
    """transformers' AttentionInterface: query [1, heads, T, D], key and value [1, kv_heads, T, D] of a block; returns
    the block's rows of causal attention over the whole sequence, [1, T, heads, D]."""
    block = getcurrent()
    if not isinstance(block, Block):
        raise RuntimeError("memo's attention was called outside of a layer that memo runs")
    for name, bad in (("dropout", bool(dropout)), ("s_aux", kwargs.get("s_aux") is not None),
                      ("is_causal", not kwargs.get("is_causal", getattr(module, "is_causal", True)))):
        if bad:
            raise ValueError(f"attention with {name} is not supported")
    if value.shape[-1] != query.shape[-1]:
        raise ValueError("attention whose values are wider than its keys is not supported")
    factor = math.sqrt(query.shape[-1]) * scaling if scaling is not None else 1.0
    if abs(factor - 1) > 1e-12:
        query = query * factor
    return block.parent.switch((query, key, value, softcap, sliding_window)), None


def mask(batch_size, attention_mask=None, **kwargs):
    """transformers' AttentionMaskInterface: the mask of padding [batch, tokens] itself, nothing of S x S."""
    return attention_mask


def register():
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(NAME, attention)
    AttentionMaskInterface.register(NAME, mask)
