"""attach's check judges by rounding: it refuses what differs, by name, and not what the plain model rounds as much."""

import families
import pytest
import torch
import transformers as hf
from memo.block_greenlet import tokens_of_block

import memo

OPTIONS = dict(context=512, block=128)
_SMALL = dict(hidden_size=64, num_hidden_layers=2, num_attention_heads=4, vocab_size=97)


def plant(model, part, layer=0):
    """In blocks, gradients through the queries of a layer are (1 + part) of the right ones; values are as ever."""
    def off(module, args, out):
        return out + part * (out - out.detach()) if tokens_of_block() else out
    model.model.layers[layer].self_attn.q_proj.register_forward_hook(off)


@pytest.mark.parametrize("layer", [0, 2])
def test_one_percent_of_one_gradient_is_found_in_float32(layer):
    model = families.make("llama")
    plant(model, 0.01, layer)
    with pytest.raises(memo.UnsupportedModel, match=f"model.layers.{layer} .*gradient of .*by token blocks differs"):
        memo.attach(model, **OPTIONS)
    memo.attach(model, check=False, **OPTIONS)


def own_error(ids):
    """The plain layer's own, in bfloat16: of the gradient of its queries' weight."""
    half, exact = families.make("llama", torch.bfloat16), families.make("llama", torch.bfloat16).float()
    name = "model.layers.0.self_attn.q_proj.weight"
    a, b = (families.step(m, input_ids=ids, labels=ids)[1][name].float() for m in (half, exact))
    return ((a - b).norm() / b.norm()).item()


def test_in_bfloat16_what_exceeds_the_plain_model_s_own_error_is_found(ids):
    memo.detach(model) if memo.attach(model := families.make("llama", torch.bfloat16), **OPTIONS) else None
    plant(model, 4 * own_error(ids))
    with pytest.raises(memo.UnsupportedModel, match="model.layers.0 .*whose rounding is"):
        memo.attach(model, **OPTIONS)


ROUNDING = {  # gradients that are 0 in theory (a bias of keys), and rounding that is large
    "opt": lambda: hf.OPTForCausalLM(hf.OPTConfig(**_SMALL, word_embed_proj_dim=64, ffn_dim=96, dropout=0.0, pad_token_id=0)),
    "biogpt": lambda: hf.BioGptForCausalLM(hf.BioGptConfig(
        **_SMALL, intermediate_size=96, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, activation_dropout=0.0,
        layerdrop=0.0, pad_token_id=0)),
    "gpt2": lambda: families.make("gpt2"),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("name", ROUNDING)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_rounding_is_accepted(name, dtype, seed, ids):
    torch.manual_seed(seed)
    model = ROUNDING[name]().to(dtype).train()
    plain = families.step(model, input_ids=ids, labels=ids)
    with memo.attached(model, **OPTIONS):
        ours = families.step(model, input_ids=ids, labels=ids)
    assert ours[0] == pytest.approx(plain[0], rel=1e-5 if dtype == torch.float32 else 1e-2)


def test_experts_that_run_one_by_one(ids):
    """What a mixture allocates behind attention then hangs on values, and is computed again in backward."""
    model = families.make("mixtral")
    model.set_experts_implementation("eager")
    plain = families.step(model, input_ids=ids, labels=ids)
    for strategy in ("resident", "recompute"):
        with memo.attached(model, strategy=strategy, **OPTIONS) as attachment:
            assert max(families.differences(families.step(model, input_ids=ids, labels=ids), plain)) <= 1e-5
            assert attachment.departures == (0, [])


def test_what_allocates_otherwise_first_in_a_step_begins_the_step_again(ids):
    model = families.make("llama")
    plain = families.step(model, input_ids=ids, labels=ids)
    with memo.attached(model, **OPTIONS) as attachment:
        families.step(model, input_ids=ids, labels=ids)
        changed = []

        def more(x):  # not looked at: the code of a function
            return torch.nn.functional.silu(x.clone() if changed else x)

        for layer in model.model.layers:
            layer.mlp.act_fn.forward = lambda x: more(x)
        for value in ([], [True], [True]):
            changed[:] = value
            assert max(families.differences(families.step(model, input_ids=ids, labels=ids), plain)) <= 1e-5
        assert attachment.departures == (0, [])
