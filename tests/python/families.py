"""Small models of the families that the plug-in is tested with, made here: nothing is downloaded."""

import torch
import transformers as hf

_LLAMA = dict(hidden_size=64, intermediate_size=160, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
              vocab_size=97, max_position_embeddings=1024)
_GEMMA = _LLAMA | dict(head_dim=16, query_pre_attn_scalar=20, sliding_window=100, attention_dropout=0.0)

CONFIGS = {
    "llama": lambda: hf.LlamaConfig(**_LLAMA),
    "mistral": lambda: hf.MistralConfig(**_LLAMA, sliding_window=100),
    "qwen2": lambda: hf.Qwen2Config(**_LLAMA),
    "qwen3": lambda: hf.Qwen3Config(**_LLAMA, head_dim=16, tie_word_embeddings=True),
    "gemma2": lambda: hf.Gemma2Config(**_GEMMA, attn_logit_softcapping=5.0, final_logit_softcapping=8.0),
    "gemma3": lambda: hf.Gemma3TextConfig(**_GEMMA, layer_types=["sliding_attention", "full_attention",
                                                                 "sliding_attention"]),
    "phi3": lambda: hf.Phi3Config(**_LLAMA, pad_token_id=0),
    "gpt2": lambda: hf.GPT2Config(n_embd=64, n_layer=3, n_head=4, vocab_size=97, n_positions=1024, resid_pdrop=0.0,
                                  embd_pdrop=0.0, attn_pdrop=0.0),
    "gpt_neox": lambda: hf.GPTNeoXConfig(hidden_size=64, intermediate_size=160, num_hidden_layers=3,
                                         num_attention_heads=4, vocab_size=97, hidden_dropout=0.0,
                                         attention_dropout=0.0),
    "olmo2": lambda: hf.Olmo2Config(**_LLAMA),
    "granite": lambda: hf.GraniteConfig(**_LLAMA, attention_multiplier=0.3, residual_multiplier=0.5,
                                        embedding_multiplier=2.0, logits_scaling=1.5),
    "mixtral": lambda: hf.MixtralConfig(**_LLAMA, num_local_experts=4, num_experts_per_tok=2, output_router_logits=True,
                                        router_aux_loss_coef=0.1),
}


def make(family, dtype=torch.float32, **changes):
    """A model in training mode, the same at every call."""
    torch.manual_seed(0)
    config = CONFIGS[family]()
    for name, value in changes.items():
        setattr(config, name, value)
    return hf.AutoModelForCausalLM.from_config(config).to(dtype).train()


def step(model, **inputs):
    """Loss and every gradient of a forward and backward."""
    model.zero_grad(set_to_none=True)
    out = model(**inputs)
    out.loss.backward()
    return out.loss.item(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def differences(ours, plain):
    """Relative difference of the losses, and the largest of the gradients' (L2)."""
    loss = abs(ours[0] - plain[0]) / abs(plain[0])
    assert ours[1].keys() == plain[1].keys()
    return loss, max(((ours[1][n] - g).norm() / g.norm().clamp_min(1e-30)).item() for n, g in plain[1].items())
