"""Inputs of a call, from a seed: rows, padding, packing, labels."""

import torch

VOCABULARY = 90  # ids below it are in every model, also one whose embeddings were made smaller


def make(seed, tokens, rows=1, padding=None, labels="all", packed=(), mask=None, positions=None, embeddings=None):
    """Arguments of the model. padding: "left", "right" or "both" sides, of all rows but the first (of the first where it
    is alone). labels: "all", "collator" (none where padding is), "half", "none", "outside" the vocabulary; None: not given.
    packed: lengths of documents, in shares of the row. mask: "ones", "bool" or "causal" where nothing is padded.
    positions: what they begin at. embeddings: a module that makes them of ids."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(1, VOCABULARY, (rows, tokens), generator=generator)
    real = torch.ones_like(ids)
    for row in range(0 if rows == 1 else 1, rows if padding else 0):
        count = tokens * (row + 1) // (rows + 3)
        if padding in ("left", "both"):
            real[row, :count] = 0
        if padding in ("right", "both"):
            real[row, tokens - count:] = 0
    ids = ids * real
    inputs = {"input_ids": ids}
    if padding or mask == "ones":
        inputs["attention_mask"] = real
    elif mask == "bool":
        inputs["attention_mask"] = real.bool()
    elif mask == "causal":
        inputs["attention_mask"] = torch.ones(tokens, tokens).tril().bool()[None, None].expand(rows, 1, -1, -1)
    if packed:
        ends = [round(tokens * sum(packed[:i + 1]) / sum(packed)) for i in range(len(packed))]
        lengths = [end - begin for begin, end in zip([0, *ends], ends)]
        inputs |= {"position_ids": torch.cat([torch.arange(n) for n in lengths])[None].expand(rows, -1), "use_cache": False}
    elif positions is not None:
        inputs |= {"position_ids": torch.arange(positions, positions + tokens)[None].expand(rows, -1)}
    if labels is not None:
        given = ids.clone()
        if labels == "collator":
            given = given.masked_fill(real == 0, -100)
        elif labels == "half":
            given[:, :tokens // 2] = -100
        elif labels == "none":
            given[:] = -100
        elif labels == "outside":
            given[0, tokens // 2] = 1000
        inputs["labels"] = given
    if embeddings is not None:
        inputs["inputs_embeds"] = embeddings(inputs.pop("input_ids"))
    return inputs
