"""The models that are measured: Qwen3's shapes with random weights, their work in FLOPs, and the goals for them."""

import json
import sys
from pathlib import Path

K = 1024
SHAPES = {
    "0.6B": dict(hidden=1024, layers=28, heads=16, kv_heads=8, head_dim=128, ffn=3072, vocab=151936, tied=True),
    "1.7B": dict(hidden=2048, layers=28, heads=16, kv_heads=8, head_dim=128, ffn=6144, vocab=151936, tied=True),
    "8B": dict(hidden=4096, layers=36, heads=32, kv_heads=8, head_dim=128, ffn=12288, vocab=151936, tied=False),
}
SMALL = {  # in their place, to try the parts
    "0.6B": dict(hidden=64, layers=3, heads=4, kv_heads=2, head_dim=16, ffn=128, vocab=256, tied=True),
    "1.7B": dict(hidden=96, layers=2, heads=6, kv_heads=2, head_dim=16, ffn=128, vocab=256, tied=True),
    "8B": dict(hidden=64, layers=4, heads=4, kv_heads=4, head_dim=16, ffn=192, vocab=256, tied=False),
}
# Of bfloat16 without sparsity, from NVIDIA's data sheets.
PEAK_FLOPS = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "B200": 2250e12, "L40S": 362e12, "4090": 165e12, "A10": 125e12}


def flops(shape, context):
    """Of a step, forward and backward: with attention's causal half counted, and with all of it."""
    heads = shape["heads"] * shape["head_dim"]
    layer = shape["hidden"] * (2 * heads + 2 * shape["kv_heads"] * shape["head_dim"] + 3 * shape["ffn"])
    products = 6 * context * (layer * shape["layers"] + shape["hidden"] * shape["vocab"])
    attention = 12 * shape["layers"] * heads * context * context
    return products + attention / 2, products + attention


def peak_flops(device):
    return next((peak for name, peak in PEAK_FLOPS.items() if name in device), None)


def save(shape, folder):
    """A model folder with random weights, by Transformers."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(1)
    names = dict(
        hidden="hidden_size",
        layers="num_hidden_layers",
        heads="num_attention_heads",
        kv_heads="num_key_value_heads",
        head_dim="head_dim",
        ffn="intermediate_size",
        vocab="vocab_size",
        tied="tie_word_embeddings",
    )
    config = Qwen3Config(
        **{names[key]: value for key, value in shape.items()},
        max_position_embeddings=1 << 21,
        bos_token_id=None,
        eos_token_id=None,
        dtype="float32",
    )
    Qwen3ForCausalLM(config).save_pretrained(folder)


if __name__ == "__main__":  # a shape in JSON, and a folder: in a process of its own
    save(json.loads(sys.argv[1]), Path(sys.argv[2]))
