"""Writes the tiny models' descriptions that the C++ tests compare with: config.json as transformers saves it, and
parameters.json, the names and shapes of the parameters of the model that transformers builds from it.

Run from anywhere: python tests/data/configs/generate.py
"""

import json
from pathlib import Path

import transformers
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config

SIZES = dict(
    vocab_size=101,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=64,
    bos_token_id=None,
    eos_token_id=None,
)
GPT2 = dict(
    vocab_size=101, n_embd=32, n_layer=2, n_head=4, n_positions=64,
    resid_pdrop=0.0, attn_pdrop=0.0, embd_pdrop=0.0, bos_token_id=None, eos_token_id=None,
)  # fmt: skip
LLAMA3 = dict(
    rope_type="llama3", rope_theta=500000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
    original_max_position_embeddings=32,
)  # fmt: skip

CONFIGS = {
    "gpt2": GPT2Config(**GPT2),
    "gpt2_untied": GPT2Config(**GPT2, n_inner=80, tie_word_embeddings=False),
    "llama": LlamaConfig(**SIZES, rope_parameters=LLAMA3),
    "llama_biases": LlamaConfig(**SIZES, attention_bias=True, mlp_bias=True, tie_word_embeddings=True),
    "mistral": MistralConfig(**SIZES, sliding_window=48),
    "mistral_no_window": MistralConfig(**SIZES, sliding_window=None, head_dim=16),
    "qwen2": Qwen2Config(**SIZES, tie_word_embeddings=True, rope_parameters=dict(rope_theta=1e6)),
    "qwen3": Qwen3Config(**SIZES, head_dim=16),
    "qwen3_biases": Qwen3Config(**SIZES, head_dim=16, attention_bias=True, tie_word_embeddings=True),
}

transformers.logging.set_verbosity_error()
for name, config in CONFIGS.items():
    model = AutoModelForCausalLM.from_config(config)
    folder = Path(__file__).parent / name
    folder.mkdir(exist_ok=True)
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(folder)
    shapes = {key: list(value.shape) for key, value in model.named_parameters()}
    (folder / "parameters.json").write_text(json.dumps(shapes, indent=1) + "\n")
