"""Reads the documents of a batch from the arguments of a model with flash attention. Other attention gets documents by masks."""

from memo.masks import of_flash


def of_flash_arguments(batch: int, length: int, named: dict) -> list[int]:
    """First tokens of the documents in a batch, whose rows lie one after another, by a layer's arguments: cu_seq_lens_q; else
    the tokens with position 0, if positions [1, tokens] of a single row do not count on throughout. Empty with a mask."""
    if not of_flash() or named.get("attention_mask") is not None:
        return []
    ends, positions = named.get("cu_seq_lens_q"), named.get("position_ids")
    if ends is not None:
        return [end for end in ends.tolist() if 0 < end < batch * length]
    if batch > 1 or positions is None or positions.dim() != 2 or bool((positions.diff() == 1).all()):
        return []
    return (positions[0] == 0).nonzero().flatten().tolist()


def several(batch: int, length: int, named: dict) -> bool:
    """Whether a batch may have several documents, by its first layer's arguments: rows, a mask that is not causal, or packing."""
    return batch > 1 or named.get("attention_mask") is not None or bool(of_flash_arguments(batch, length, named))
