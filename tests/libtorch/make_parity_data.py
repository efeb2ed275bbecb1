"""Writes what Hugging Face's own implementations compute for tiny models, one folder of tests/data/parity each:
config.json as transformers saves it, and expected.safetensors with the weights, a window of tokens, and the loss (mean
over tokens), logits and gradients of all weights ("gradient." + name), in float32.

Run from anywhere: python tests/libtorch/make_parity_data.py
"""

from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config

TOKENS, VOCABULARY = 48, 128
SIZES = dict(
    vocab_size=VOCABULARY,
    hidden_size=64,
    intermediate_size=96,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=128,
    bos_token_id=None,
    eos_token_id=None,
)
GPT2 = dict(
    vocab_size=VOCABULARY, n_embd=64, n_layer=2, n_head=4, n_positions=64, n_inner=96,
    resid_pdrop=0.0, attn_pdrop=0.0, embd_pdrop=0.0, bos_token_id=None, eos_token_id=None,
)  # fmt: skip
# Of the eight frequencies of a head, at least one is kept, one blended, and one divided.
LLAMA3 = dict(
    rope_type="llama3", rope_theta=500000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
    original_max_position_embeddings=64,
)  # fmt: skip

# Of rotary scaling, one layer of eight frequencies a head; the window is longer than the original context.
SCALED = SIZES | dict(hidden_size=32, intermediate_size=48, num_hidden_layers=1, head_dim=16)
YARN = dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=32)
YARN_IN_FULL = dict(
    rope_type="yarn", rope_theta=500.0, factor=3.0, original_max_position_embeddings=32, beta_fast=3.0, beta_slow=0.5,
    mscale=1.5, mscale_all_dim=0.7, truncate=False,
)  # fmt: skip

CONFIGS = {
    "gpt2": GPT2Config(**GPT2),
    "llama": LlamaConfig(**SIZES, rope_parameters=LLAMA3),
    "llama_biases": LlamaConfig(**SIZES, attention_bias=True, mlp_bias=True, tie_word_embeddings=True),
    "mistral": MistralConfig(**SIZES, sliding_window=9),
    "qwen2": Qwen2Config(**SIZES, tie_word_embeddings=True, rope_parameters=dict(rope_theta=1e6)),
    "qwen3": Qwen3Config(**SIZES, head_dim=32, attention_bias=True),
    "llama_linear": LlamaConfig(**SCALED, rope_parameters=dict(rope_type="linear", factor=2.5)),
    "llama_dynamic": LlamaConfig(
        **SCALED | dict(max_position_embeddings=24), rope_parameters=dict(rope_type="dynamic", factor=2.0)
    ),
    "qwen2_yarn": Qwen2Config(**SCALED, rope_parameters=YARN),
    "mistral_yarn": MistralConfig(**SCALED, sliding_window=None, rope_parameters=YARN_IN_FULL),
}

transformers.logging.set_verbosity_error()
for name, config in CONFIGS.items():
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager", dtype=torch.float32)
    with torch.no_grad():  # far from what initialisation leaves alike: biases of 0, norms of 1, flat attention
        for parameter in model.parameters():
            parameter += 0.15 * torch.randn_like(parameter)
    window = torch.randint(VOCABULARY, (TOKENS + 1,))
    logits = model(window[None, :-1]).logits[0]
    loss = torch.nn.functional.cross_entropy(logits, window[1:])
    loss.backward()

    tensors = {"window": window.float(), "loss": loss.detach().reshape(1), "logits": logits.detach()}
    for key, parameter in model.named_parameters():
        tensors[key] = parameter.detach()
        tensors["gradient." + key] = parameter.grad
    folder = Path(__file__).parents[1] / "data" / "parity" / name
    folder.mkdir(parents=True, exist_ok=True)
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(folder)
    save_file({key: value.contiguous() for key, value in tensors.items()}, folder / "expected.safetensors")
    print(f"{name}: loss {loss.item():.4f}")
