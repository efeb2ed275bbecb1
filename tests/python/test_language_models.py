"""Which layers are attached: those of the language model, also where a tower of images is deeper; and what is refused."""

import families
import pytest
import torch
import transformers as hf

import memo

_TEXT = dict(
    hidden_size=64,
    intermediate_size=96,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    vocab_size=97,
    pad_token_id=0,
)
_TOWER = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=5, num_attention_heads=2, image_size=28, patch_size=14)
_QWEN = dict(text_config=dict(_TEXT, rope_parameters=dict(rope_type="default", rope_theta=1e4, mrope_section=[2, 3, 3])),
             image_token_id=1, video_token_id=2, vision_start_token_id=3, vision_end_token_id=4)

WITH_TOWERS = {
    "qwen2_vl": lambda: hf.Qwen2VLForConditionalGeneration(hf.Qwen2VLConfig(
        **_QWEN, vision_config=dict(depth=5, embed_dim=32, num_heads=2, hidden_size=64))),
    "qwen2_5_vl": lambda: hf.Qwen2_5_VLForConditionalGeneration(hf.Qwen2_5_VLConfig(
        **_QWEN, vision_config=dict(depth=5, hidden_size=32, num_heads=2, intermediate_size=48, out_hidden_size=64))),
    "llava": lambda: hf.LlavaForConditionalGeneration(hf.LlavaConfig(
        text_config=hf.LlamaConfig(**_TEXT), vision_config=hf.CLIPVisionConfig(**_TOWER), image_token_index=1)),
    "gemma3": lambda: hf.Gemma3ForConditionalGeneration(hf.Gemma3Config(
        text_config=hf.Gemma3TextConfig(**_TEXT, head_dim=16, query_pre_attn_scalar=20, sliding_window=100),
        vision_config=hf.SiglipVisionConfig(**_TOWER), image_token_index=1, mm_tokens_per_image=4, boi_token_index=2,
        eoi_token_index=3)),
}
OTHERS = {
    "phimoe": lambda: hf.PhimoeForCausalLM(hf.PhimoeConfig(
        **_TEXT, num_local_experts=4, num_experts_per_tok=2, router_jitter_noise=0.0, input_jitter_noise=0.0)),
    "llama4, chunks, every second layer without rotary embedding": lambda: hf.Llama4ForCausalLM(hf.Llama4TextConfig(
        **_TEXT, head_dim=16, intermediate_size_mlp=96, num_local_experts=2, attention_chunk_size=64, no_rope_layers=[1, 0],
        moe_layers=[1])),
    "starcoder, one key head": lambda: hf.GPTBigCodeForCausalLM(hf.GPTBigCodeConfig(
        n_embd=64, n_layer=2, n_head=4, vocab_size=97, n_inner=96, attn_pdrop=0.0, resid_pdrop=0.0, embd_pdrop=0.0)),
}


def check(model, ids):
    plain = families.step(model, input_ids=ids, labels=ids)
    with memo.attached(model, context=384, block=128) as attachment:
        ours = families.step(model, input_ids=ids, labels=ids)
    largest = max(g.norm() for g in plain[1].values())
    assert ours[0] == pytest.approx(plain[0], rel=1e-5) and attachment.departures == (0, [])
    for name, g in plain[1].items():
        assert (ours[1][name] - g).norm() <= 1e-5 * (g.norm() + 1e-3 * largest), name
    return attachment


@pytest.mark.parametrize("name", WITH_TOWERS)
def test_the_language_model_is_attached_and_not_a_deeper_tower(name, ids):
    torch.manual_seed(0)
    attachment = check(WITH_TOWERS[name]().train(), ids.clamp_min(5))
    assert len(attachment.layers) == 2 and attachment.names[0].startswith("model.language_model.layers.0 ")


@pytest.mark.parametrize("name", OTHERS)
def test_other_models(name, ids):
    torch.manual_seed(0)
    check(OTHERS[name]().train(), ids)


_BERT = dict(hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, vocab_size=97,
             hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
REFUSED = {
    "deepseek_v2": (lambda: hf.DeepseekV2ForCausalLM(hf.DeepseekV2Config(
        hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=4, vocab_size=97,
        n_routed_experts=4, num_experts_per_tok=2, moe_intermediate_size=32, kv_lora_rank=16, q_lora_rank=None,
        qk_rope_head_dim=8, qk_nope_head_dim=16, v_head_dim=16, first_k_dense_replace=1, n_group=1, topk_group=1, head_dim=24)),
        r"model\.layers\.0 .*values \(16 columns a head\) are not as wide as its keys \(24\)"),
    "falcon": (lambda: hf.FalconForCausalLM(hf.FalconConfig(
        hidden_size=64, num_hidden_layers=2, num_attention_heads=4, vocab_size=97)),
        r"transformer\.h\.0 .*computes with its attention mask"),
    "falcon with alibi": (lambda: hf.FalconForCausalLM(hf.FalconConfig(
        hidden_size=64, num_hidden_layers=2, num_attention_heads=4, vocab_size=97, alibi=True)), r"transformer\.h\.0 .*alibi"),
    "gpt_oss": (lambda: hf.GptOssForCausalLM(hf.GptOssConfig(
        **_TEXT, head_dim=16, num_local_experts=4, num_experts_per_tok=2, sliding_window=64)), r"model\.layers\.0 .*s_aux"),
    "bert": (lambda: hf.BertLMHeadModel(hf.BertConfig(**_BERT)), r"encoder\.layer\.0 .*is_causal=False"),
    "t5": (lambda: hf.T5ForConditionalGeneration(hf.T5Config(d_model=64, d_ff=96, num_layers=2, num_heads=4, vocab_size=97,
                                                             d_kv=16)), "encoder with a decoder"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_run_is_refused_by_name(name):
    make, message = REFUSED[name]
    model = make().train()
    with pytest.raises(memo.UnsupportedModel, match=message) as raised:
        memo.attach(model, context=256, block=64)
    assert "\n" not in str(raised.value)
    assert all("forward" not in module.__dict__ for module in model.modules())
