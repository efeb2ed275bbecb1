"""A plan belongs to the model as it is: what users change after attach is planned again, and computes as the plain model."""

import copy

import families
import peft
import pytest
import torch
import transformers as hf

import memo

OPTIONS = dict(context=512, block=128)


def same(model, plain, ids, **inputs):
    """A step of each, both changed alike."""
    ours = families.step(model, input_ids=ids, labels=ids, **inputs)
    exact = families.step(plain, input_ids=ids, labels=ids, **inputs)
    assert max(families.differences(ours, exact)) <= 1e-5
    return ours


def freeze_one(model):
    model.model.layers[0].mlp.down_proj.weight.requires_grad_(False)


def freeze_first_layers(model):
    for layer in model.model.layers[:2]:
        layer.requires_grad_(False)


def freeze_what_is_below_the_last_layer(model):
    model.requires_grad_(False)
    model.model.layers[-1].requires_grad_(True)


def freeze_all_but_the_head(model):
    model.requires_grad_(False)
    model.lm_head.requires_grad_(True)


def freeze_all_but_embeddings(model):
    model.requires_grad_(False)
    model.model.embed_tokens.requires_grad_(True)


def unfreeze(model):
    model.requires_grad_(True)


def other_mlp(model):
    mlp = copy.deepcopy(model.model.layers[1].mlp)
    for p in mlp.parameters():
        p.data.mul_(0.5)
    model.model.layers[1].mlp = mlp


def no_norm(model):
    model.model.layers[2].input_layernorm = torch.nn.Identity()


def other_layer(model):
    layer = copy.deepcopy(model.model.layers[0])
    for p in layer.parameters():
        p.data.mul_(0.9)
    layer.self_attn.layer_idx = 1
    model.model.layers[1] = layer


def one_layer_less(model):
    del model.model.layers[2]
    model.config.num_hidden_layers = 2


def double(model):
    model.double()


def bfloat16_and_back(model):
    model.to(torch.bfloat16).float()


def assigned_weights(model):
    model.load_state_dict({name: 0.8 * p for name, p in model.state_dict().items()}, assign=True)


def other_hook(model):
    model.model.layers[1].mlp.register_forward_hook(lambda module, args, out: 0.5 * out)


def narrower_window(model):
    for layer in model.model.layers:
        layer.self_attn.sliding_window = 60
    model.config.sliding_window = 60


CHANGES = [
    freeze_one,
    freeze_first_layers,
    freeze_what_is_below_the_last_layer,
    freeze_all_but_the_head,
    freeze_all_but_embeddings,
    other_mlp,
    no_norm,
    other_layer,
    one_layer_less,
    bfloat16_and_back,
    assigned_weights,
    other_hook,
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
@pytest.mark.parametrize("when", ["before attach", "after attach", "after a step"])
def test_a_change_is_planned(change, when, ids):
    model, plain = families.make("llama"), families.make("llama")
    if when == "before attach":
        change(model)
    with memo.attached(model, **OPTIONS):
        if when == "after a step":
            same(model, plain, ids)
        if when != "before attach":
            change(model)
        change(plain)
        for tokens in (377, 150):
            same(model, plain, ids[:, :tokens])
        if change is not one_layer_less and change is not other_layer:
            unfreeze(model), unfreeze(plain)
            same(model, plain, ids)
    same(model, plain, ids)


def test_windows_may_change(ids):
    model, plain = families.make("mistral"), families.make("mistral")
    with memo.attached(model, **OPTIONS):
        same(model, plain, ids)
        narrower_window(model), narrower_window(plain)
        same(model, plain, ids)


def test_bfloat16_weights_after_attach(ids):
    model, plain = families.make("llama"), families.make("llama")
    exact = families.step(families.make("llama", torch.bfloat16).float(), input_ids=ids, labels=ids)
    with memo.attached(model, **OPTIONS):
        model.to(torch.bfloat16), plain.to(torch.bfloat16)
        floats = lambda step: (step[0], {name: g.float() for name, g in step[1].items()})
        rounding = families.differences(floats(families.step(plain, input_ids=ids, labels=ids)), exact)
        ours = families.differences(floats(families.step(model, input_ids=ids, labels=ids)), exact)
        assert ours[1] <= 1.5 * rounding[1]


def test_a_dtype_without_kernels_is_refused_before_the_step(ids):
    model = families.make("llama")
    with memo.attached(model, **OPTIONS):
        double(model)
        with pytest.raises(memo.UnsupportedModel, match="model.layers.0 .*float64"):
            model(input_ids=ids, labels=ids)
        model.float()
        same(model, families.make("llama").double().float(), ids)


def test_steps_look_at_the_model_and_plan_nothing_while_it_stays(ids, monkeypatch):
    model = families.make("llama")
    with memo.attached(model, **OPTIONS) as attachment:
        families.step(model, input_ids=ids, labels=ids)
        monkeypatch.setattr(memo.kinds, "find", None)  # not called again
        families.step(model, input_ids=ids, labels=ids)
        freeze_one(model)
        with pytest.raises(TypeError):
            model(input_ids=ids, labels=ids)
        monkeypatch.undo()
        families.step(model, input_ids=ids, labels=ids)
        monkeypatch.setattr(memo.kinds, "find", None)
        unfreeze(model)
        families.step(model, input_ids=ids, labels=ids)  # the first plan again
        assert attachment.departures == (0, [])


ADAPTERS = {
    "LoRA": dict(target_modules=["q_proj", "v_proj"]),
    "LoRA of everything": dict(target_modules="all-linear"),
    "LoRA of one layer": dict(target_modules=["q_proj"], layers_to_transform=[2]),
    "LoRA of the first layer": dict(target_modules=["q_proj", "down_proj"], layers_to_transform=[0]),
    "DoRA": dict(target_modules=["q_proj", "up_proj"], use_dora=True),
    "saved modules": dict(target_modules=["q_proj"], modules_to_save=["lm_head"]),
}


def adapted(model, **options):
    torch.manual_seed(5)
    wrapped = peft.get_peft_model(model, peft.LoraConfig(task_type="CAUSAL_LM", r=4, **options))
    with torch.no_grad():
        for name, p in wrapped.named_parameters():  # not of zeros, which hide errors
            if "lora_B" in name:
                p.normal_(std=0.05)
    return wrapped.train()


@pytest.mark.parametrize("name", ADAPTERS)
@pytest.mark.parametrize("when", ["adapters first", "attached first", "the adapted model attached"])
def test_adapters(name, when, ids):
    model, plain = families.make("llama"), adapted(families.make("llama"), **ADAPTERS[name])
    if when == "attached first":
        memo.attach(model, **OPTIONS)
    wrapped = adapted(model, **ADAPTERS[name])
    if when != "attached first":
        memo.attach(model if when == "adapters first" else wrapped, **OPTIONS)
    same(wrapped, plain, ids)
    with wrapped.disable_adapter(), plain.disable_adapter():
        assert wrapped(input_ids=ids, labels=ids).loss.item() == pytest.approx(
            plain(input_ids=ids, labels=ids).loss.item(), rel=1e-6
        )
    same(wrapped, plain, ids)
    memo.detach(model if when != "the adapted model attached" else wrapped)
    same(wrapped, plain, ids)


def test_merged_adapters_and_back(ids):
    model, plain = families.make("llama"), families.make("llama")
    with memo.attached(model, **OPTIONS):
        wrapped, of_plain = (
            adapted(model, target_modules=["q_proj", "v_proj"]),
            adapted(plain, target_modules=["q_proj", "v_proj"]),
        )
        same(wrapped, of_plain, ids)
        wrapped.merge_and_unload(), of_plain.merge_and_unload()
        model.requires_grad_(True), plain.requires_grad_(True)
        same(model, plain, ids)


_SMALL = dict(hidden_size=64, intermediate_size=96, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2,
              vocab_size=97, pad_token_id=0)
_MIXTURE = _SMALL | dict(num_experts=4, num_experts_per_tok=2, moe_intermediate_size=32, head_dim=16)

UNLIKE = {  # models whose layers are of several kinds
    "smollm3, every fourth without rotary embedding": lambda: hf.SmolLM3Config(**_SMALL, bos_token_id=1, eos_token_id=2),
    "qwen3_moe, every second sparse": lambda: hf.Qwen3MoeConfig(**_MIXTURE, decoder_sparse_step=2),
    "qwen3_moe, one dense": lambda: hf.Qwen3MoeConfig(
        **_MIXTURE, mlp_only_layers=[1], output_router_logits=True, router_aux_loss_coef=0.1
    ),
    "glm4_moe, first dense": lambda: hf.Glm4MoeConfig(
        **_SMALL,
        n_routed_experts=4,
        num_experts_per_tok=2,
        moe_intermediate_size=32,
        head_dim=16,
        first_k_dense_replace=1,
        n_group=1,
        topk_group=1,
    ),
    "gemma3, windows in turn": lambda: hf.Gemma3TextConfig(
        **_SMALL,
        head_dim=16,
        query_pre_attn_scalar=20,
        sliding_window=100,
        layer_types=["sliding_attention", "full_attention", "sliding_attention", "sliding_attention"],
    ),
}


@pytest.mark.parametrize("name", UNLIKE)
@pytest.mark.parametrize("strategy", ["resident", "recompute"])
def test_layers_of_several_kinds(name, strategy, ids):
    torch.manual_seed(0)
    model = hf.AutoModelForCausalLM.from_config(UNLIKE[name]()).train()
    plain = families.step(model, input_ids=ids, labels=ids)
    with memo.attached(model, strategy=strategy, **OPTIONS) as attachment:
        for _ in range(2):
            assert max(families.differences(families.step(model, input_ids=ids, labels=ids), plain)) <= 1e-5
        assert attachment.departures == (0, [])


class TestFrozenLayersBelow:
    def test_nothing_of_them_is_kept_or_run_in_backward(self, ids, tmp_path):
        model = families.make("llama")
        freeze_what_is_below_the_last_layer(model)
        with memo.attached(model, strategy="resident", **OPTIONS) as attachment:
            frozen = attachment.plan.describe()["device_peak"]
        model.requires_grad_(True)
        with memo.attached(model, strategy="resident", **OPTIONS) as attachment:
            assert frozen < 0.6 * attachment.plan.describe()["device_peak"]
