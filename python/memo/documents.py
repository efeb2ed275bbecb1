"""Documents of a batch that a model with flash attention is told of by arguments; other attention takes none from them."""

from memo.masks import of_flash


def of_flash_arguments(batch: int, length: int, named: dict) -> list[int]:
    """First tokens of documents, of rows that lie one behind the other, by a layer's arguments: cu_seq_lens_q, else where
    positions [1, tokens] of a single row are 0 that do not go on all along; none where there is a mask."""
    if not of_flash() or named.get("attention_mask") is not None:
        return []
    ends, positions = named.get("cu_seq_lens_q"), named.get("position_ids")
    if ends is not None:
        return [end for end in ends.tolist() if 0 < end < batch * length]
    if batch > 1 or positions is None or positions.dim() != 2 or bool((positions.diff() == 1).all()):
        return []
    return (positions[0] == 0).nonzero().flatten().tolist()
