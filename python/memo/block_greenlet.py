"""The greenlet in which a block runs a layer: it leaves the layer at its attention, which is memo.attention or transformers'
interface, and enters it there again."""

import math

import torch
from greenlet import getcurrent, greenlet

from memo import masks
from memo.errors import UnsupportedModel

NAME = "memo"  # of this attention implementation in transformers
_seen = None  # within `look`: (heads, kv_heads, head_dim, window) of the calls outside of blocks


class BlockGreenlet(greenlet):
    """A token block in a layer. It stops at the layer's attention, and goes on from there."""

    def end(self):
        """Ends the block where it waits. The caller, which may be the garbage collector within another block, goes on."""
        if not self.dead:
            self.parent = getcurrent()
            self.throw()


def attention(query, key, value, scale=None, window=None, softcap=None):
    """Causal self-attention: query [batch, heads, tokens, head_dim], key and value [batch, kv_heads, tokens, head_dim]
    -> [batch, heads, tokens, head_dim]. scale: factor of the scores, 1 / sqrt(head_dim) by default. window: the number of
    keys that a query sees, itself included. softcap: scores become softcap tanh(score / softcap).

    A model of your own needs this one call to be attached (`memo.attach(model, layers=...)`). In a layer that runs by
    token blocks, the block waits here until attention over the whole sequence has been computed.
    """
    if isinstance(getcurrent(), BlockGreenlet):
        return _leave(query, key, value, scale, softcap, window).transpose(1, 2)
    if _seen is not None:
        _seen.append((query.shape[1], key.shape[1], query.shape[-1], window or 0))
    group = query.shape[1] // key.shape[1]
    if window is None and softcap is None:
        return torch.nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True, scale=scale,
                                                                enable_gqa=group > 1)
    key, value = key.repeat_interleave(group, 1), value.repeat_interleave(group, 1)
    scores = query @ key.transpose(2, 3) * (scale if scale is not None else query.shape[-1] ** -0.5)
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    i = torch.arange(query.shape[2], device=query.device)
    hidden = i[None] > i[:, None]
    if window is not None:
        hidden = hidden | (i[None] <= i[:, None] - window)
    return scores.masked_fill(hidden, -torch.inf).softmax(-1) @ value


def tokens_of_block():
    """(layer, begin, end) of the tokens of the block that calls this; None outside of blocks."""
    return getattr(getcurrent(), "tokens", None)


def look(run):
    """Runs `run`, and returns (heads, kv_heads, head_dim, window or 0) of each call of `attention` in it."""
    global _seen
    _seen = []
    try:
        run()
        return _seen
    finally:
        _seen = None


def _leave(query, key, value, scale, softcap, window, mask=None):
    """Leaves the block with query, key and value [1, heads, T, D], and returns its rows of attention, [1, T, heads, D]."""
    if value.shape[-1] != query.shape[-1]:
        raise UnsupportedModel(f"attention whose values ({value.shape[-1]} columns a head) are not as wide as its keys "
                               f"({query.shape[-1]}) is not supported")
    factor = math.sqrt(query.shape[-1]) * scale if scale is not None else 1.0
    if abs(factor - 1) > 1e-12:
        query = query * factor
    return getcurrent().parent.switch((query, key, value, softcap, window, mask))


def _of_transformers(module, query, key, value, attention_mask=None, dropout=0.0, scaling=None, sliding_window=None,
                     softcap=None, **kwargs):
    """transformers' AttentionInterface, for calls inside of blocks; outside of them the model's own attention is in place. Flash
    attention has its window as an argument, other implementations have it in the mask."""
    if not isinstance(getcurrent(), BlockGreenlet):
        raise UnsupportedModel("a cache that the model makes around its decoder is not supported in a training step")
    if dropout:
        raise UnsupportedModel(f"dropout {dropout} of attention's weights is not supported; set it to 0")
    for name, bad in (("s_aux", kwargs.get("s_aux") is not None),
                      ("is_causal=False", not kwargs.get("is_causal", getattr(module, "is_causal", True)))):
        if bad:
            raise UnsupportedModel(f"attention with {name} is not supported")
    if attention_mask is not None and not isinstance(attention_mask, masks.Mask):
        raise UnsupportedModel("an attention mask that the layer makes by itself is not supported")
    window = sliding_window if masks.of_flash() else None
    return _leave(query, key, value, scaling, softcap, window, attention_mask), None


def register():
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(NAME, _of_transformers)
    AttentionMaskInterface.register(NAME, masks.interface)
