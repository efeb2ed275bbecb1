"""Splits a sequence over the ranks of a torch.distributed group, and makes them agree on a plan."""

import tempfile
from pathlib import Path

import torch

from memo import _core


def count(group) -> int:
    """The number of ranks over which a sequence is split; 1 without a group."""
    return torch.distributed.get_world_size(group) if group is not None else 1


def agreed(group, make):
    """The plan that `make` returns on rank 0. Rank 0 plans and broadcasts, so that all ranks issue the same exchanges; its
    ValueError is raised on all ranks. Without a group, the plan that `make` returns."""
    if group is None:
        return make()
    with tempfile.TemporaryDirectory() as folder:
        path, told = Path(folder) / "plan.json", [None, None]  # the plan's text, or what failed
        if torch.distributed.get_rank(group) == 0:
            try:
                make().save(str(path))
                told[0] = path.read_text()
            except ValueError as error:
                told[1] = error
        torch.distributed.broadcast_object_list(told, group=group, group_src=0)
        if told[1] is not None:
            raise told[1]
        path.write_text(told[0])
        return _core.Plan.load(str(path))


def of_first(group, value):
    """Rank 0's value; without a group, the given one."""
    told = [value]
    if group is not None:
        torch.distributed.broadcast_object_list(told, group=group, group_src=0)
    return told[0]


def split_sequence(input_ids, labels, group, block=1):
    """This rank's part of a sequence [1, tokens], as the model's arguments: input_ids, labels, shift_labels, position_ids
    [1, part] and num_items_in_batch. The mean over the ranks of losses and gradients is then that of the whole sequence. A
    part is a multiple of `block` (of the Attachment): the sequence is padded at its end, and padding has no loss."""
    if input_ids.shape[0] != 1 or labels.shape != input_ids.shape:
        raise ValueError(f"input_ids of shape {tuple(input_ids.shape)}, labels of {tuple(labels.shape)}: one row each")
    ranks, rank = count(group), torch.distributed.get_rank(group)
    part = -(-input_ids.shape[1] // (ranks * block)) * block
    missing = ranks * part - input_ids.shape[1]
    input_ids = torch.nn.functional.pad(input_ids, (0, missing))
    labels = torch.nn.functional.pad(labels, (0, missing), value=-100)
    shifted = torch.nn.functional.pad(labels, (0, 1), value=-100)[:, 1:]
    own = slice(rank * part, (rank + 1) * part)
    return {"input_ids": input_ids[:, own], "labels": labels[:, own], "shift_labels": shifted[:, own].contiguous(),
            "position_ids": torch.arange(ranks * part, device=input_ids.device)[None, own],
            "num_items_in_batch": (shifted != -100).sum().item() / ranks}  # a tensor would be rounded by fully_shard
