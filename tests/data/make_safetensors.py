"""Makes tests/data/safetensors with the safetensors package: one file, and a folder of two shards.

Element i of a tensor of n is i - n / 2 + 0.25, exact in each of the dtypes.
Run from anywhere: python tests/data/make_safetensors.py
"""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

OUT = Path(__file__).parent / "safetensors"


def ramp(dtype, *shape):
    count = torch.Size(shape).numel()
    return (torch.arange(count, dtype=torch.float32) - count // 2 + 0.25).to(dtype).reshape(shape)


def main():
    whole, sharded = OUT / "whole", OUT / "sharded"
    for folder in (whole, sharded):
        folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        "a.weight": ramp(torch.float32, 3, 5),
        "b.scalar": ramp(torch.float32),
        "c.empty": ramp(torch.float32, 0, 4),
        "d.weight": ramp(torch.bfloat16, 7),
        "e.weight": ramp(torch.float16, 2, 2, 2),
    }
    save_file(tensors, whole / "model.safetensors", metadata={"format": "pt"})
    mask = {"mask": torch.ones(3, 3, dtype=torch.bool), "position_ids": torch.arange(4)}
    save_file({**tensors, **mask}, OUT / "masks.safetensors")

    weight_map = {}
    for i, names in enumerate((["a.weight", "b.scalar"], ["c.empty", "d.weight", "e.weight"]), start=1):
        file = f"model-0000{i}-of-00002.safetensors"
        save_file({name: tensors[name] for name in names}, sharded / file, metadata={"format": "pt"})
        weight_map.update({name: file for name in names})
    index = {"metadata": {"total_size": sum(t.nbytes for t in tensors.values())}, "weight_map": weight_map}
    (sharded / "model.safetensors.index.json").write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
