"""config.json as transformers writes and reads it: what changes logits is honoured or refused by name.

Each change is made in the file; transformers builds the model from it, and `memo eval` gives the same loss.
"""

import json
import shutil
from dataclasses import fields

import pytest
import torch
import transformers
from conftest import memo
from test_huggingface import CONFIGS, CONTEXT, TRAIN, loss_of, open_model
from transformers import AutoConfig, AutoModelForCausalLM


class _Absent:
    def __repr__(self):
        return "absent"


ABSENT = _Absent()
LLAMA3 = dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0)
YARN = dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=64)
FEWER_POSITIONS = dict(max_position_embeddings=64)  # than the context of 200

ROPES = [
    dict(rope_parameters=dict(rope_type="default", rope_theta=500.0)),
    dict(rope_parameters=ABSENT, rope_theta=500.0),
    dict(rope_parameters=ABSENT, rope_theta=500),
    dict(rope_parameters=ABSENT, rope_theta=500.0, rope_scaling=None),
    dict(rope_parameters=dict(rope_theta=300.0), rope_theta=500.0),
    dict(rope_parameters=dict(rope_type="linear", factor=3.0)),
    dict(rope_parameters=ABSENT, rope_theta=500.0, rope_scaling=dict(type="linear", factor=3.0)),
    dict(rope_parameters=dict(rope_type="linear", factor=3), rope_scaling=dict(rope_type="dynamic", factor=2.0)),
    dict(rope_parameters=dict(rope_type="dynamic", factor=2.0)),
    FEWER_POSITIONS | dict(rope_parameters=dict(rope_type="dynamic", factor=2.0)),
    FEWER_POSITIONS | dict(rope_parameters=dict(rope_type="dynamic", factor=1.7, rope_theta=500.0)),
    dict(rope_parameters=YARN),
    dict(rope_parameters=ABSENT, rope_scaling=dict(type="yarn", factor=4.0, original_max_position_embeddings=64)),
    dict(rope_parameters=dict(rope_type="yarn", factor=2.0)),  # the original context is max_position_embeddings
    dict(rope_parameters=dict(rope_type="yarn", factor=2.0), original_max_position_embeddings=32),
    dict(rope_parameters=YARN, original_max_position_embeddings=32),
    dict(rope_parameters=YARN | dict(factor=None)),
    dict(rope_parameters=YARN | dict(attention_factor=1.5)),
    dict(rope_parameters=YARN | dict(beta_fast=4.0, beta_slow=0.5, rope_theta=100.0)),
    dict(rope_parameters=YARN | dict(beta_fast=0, beta_slow=0)),
    dict(rope_parameters=YARN | dict(mscale=1.2, mscale_all_dim=0.6)),
    dict(rope_parameters=YARN | dict(mscale=1.2)),
    dict(rope_parameters=YARN | dict(truncate=False)),
    dict(rope_parameters=YARN | dict(truncate=None)),
    dict(rope_parameters=LLAMA3 | dict(original_max_position_embeddings=64)),
    dict(rope_parameters=LLAMA3),
    dict(rope_parameters=LLAMA3, original_max_position_embeddings=32),
]
SHARED = [
    dict(rms_norm_eps=0.01),
    dict(rms_norm_eps=ABSENT),
    dict(tie_word_embeddings=True),
    dict(tie_word_embeddings=ABSENT),
    dict(num_key_value_heads=4),
    dict(num_key_value_heads=1),
    dict(head_dim=32),
    dict(hidden_size=96, intermediate_size=80, num_hidden_layers=3, layer_types=ABSENT),
    dict(torch_dtype="float32", dtype=ABSENT),
    dict(architectures=ABSENT),
    dict(architectures=None),
]
WINDOWS = [
    dict(use_sliding_window=True, sliding_window=30, max_window_layers=2, layer_types=ABSENT),
    dict(use_sliding_window=True, sliding_window=30, max_window_layers=0, layer_types=ABSENT),
    dict(use_sliding_window=True, sliding_window=30, layer_types=["sliding_attention"] * 2),
    dict(use_sliding_window=True, sliding_window=30, layer_types=["full_attention"] * 2),
    dict(use_sliding_window=True, sliding_window=None, layer_types=ABSENT),
    dict(use_sliding_window=False, sliding_window=30, max_window_layers=0, layer_types=ABSENT),
]
HONOURED = {
    "llama": ROPES + SHARED + [
        dict(attention_bias=True), dict(mlp_bias=True), dict(num_key_value_heads=ABSENT), dict(head_dim=None),
    ],
    "mistral": ROPES[5:13] + SHARED + [
        dict(sliding_window=30), dict(sliding_window=ABSENT), dict(head_dim=None), dict(attention_bias=True),
    ],
    "qwen2": ROPES[8:13] + SHARED + WINDOWS + [dict(head_dim=ABSENT)],
    "qwen3": ROPES[8:13] + SHARED + WINDOWS + [dict(attention_bias=True), dict(head_dim=ABSENT)],
    "gpt2": [
        dict(layer_norm_epsilon=0.01), dict(n_inner=None), dict(n_inner=80), dict(n_head=8), dict(n_layer=3),
        dict(tie_word_embeddings=False), dict(tie_word_embeddings=ABSENT), dict(n_embd=ABSENT, hidden_size=96),
        dict(n_ctx=256, n_positions=300), dict(architectures=None),
    ],
}  # fmt: skip
REFUSED = {
    "llama": [
        dict(hidden_act="gelu"), dict(attention_dropout=0.1), dict(pretraining_tp=2), dict(is_encoder_decoder=True),
        dict(architectures=["LlamaForSequenceClassification"]), dict(quantization_config={"quant_method": "fp8"}),
        dict(partial_rotary_factor=0.5), dict(model_type="phi3"), dict(rms_norm_eps=float("inf")),
        dict(attn_logit_softcapping=50.0), dict(final_logit_softcapping=30.0),
        dict(rope_scaling=dict(rope_type="longrope", factor=2.0, short_factor=[1.0] * 8, long_factor=[2.0] * 8)),
        dict(rope_scaling=dict(rope_type="proportional", factor=2.0)), dict(rope_scaling=YARN | dict(finetuned=True)),
        dict(rope_scaling=dict(type="linear", factor=2.0, attention_factor=1.5)), dict(rope_scaling=dict(type="linear")),
        dict(rope_scaling=dict(type="dynamic", factor=0.5)), dict(rope_theta=float("nan"), rope_parameters=ABSENT),
    ],
    "mistral": [dict(layer_types=["full_attention"] * 2), dict(sliding_window=0), dict(num_key_value_heads=ABSENT)],
    "qwen2": [
        dict(use_sliding_window=True, sliding_window=30, max_window_layers=1, layer_types=ABSENT),
        dict(layer_types=["full_attention", "sliding_attention"]), dict(layer_types=["full_attention"]),
    ],
    "qwen3": [dict(layer_types=["full_attention", "chunked_attention"])],
    "gpt2": [
        dict(activation_function="relu"), dict(scale_attn_weights=False), dict(scale_attn_by_inverse_layer_idx=True),
        dict(reorder_and_upcast_attn=True), dict(add_cross_attention=True), dict(embd_pdrop=0.1), dict(resid_pdrop=0.1),
        dict(attn_pdrop=ABSENT), dict(n_layer=2, num_hidden_layers=1), dict(architectures=["GPT2DoubleHeadsModel"]),
    ],
}  # fmt: skip
# Of sizes that all tests have, of what is done with logits, and of heads that are none of a language model's.
NOTHING = {
    "transformers_version", "output_hidden_states", "return_dict", "chunk_size_feed_forward", "id2label", "label2id",
    "problem_type", "use_cache", "pad_token_id", "bos_token_id", "eos_token_id", "initializer_range", "vocab_size",
    "num_attention_heads", "summary_type", "summary_use_proj", "summary_activation", "summary_proj_to_labels",
    "summary_first_dropout",
}  # fmt: skip
transformers.logging.set_verbosity_error()


def cases(table):
    return [
        pytest.param(family, change, id=f"{family}-{','.join(f'{k}={v}' for k, v in change.items())}"[:110])
        for family, changes in table.items()
        for change in changes
    ]


@pytest.fixture
def window(folder, book):
    """One window of a file of context + 1 bytes."""
    text = book[1000 : 1000 + CONTEXT + 1]
    (folder / "book.txt").write_bytes(text)
    return torch.tensor(list(text))


def write_config(folder, family, change):
    model = folder / "model"
    CONFIGS[family].save_pretrained(model)
    config = json.loads((model / "config.json").read_text()) | change
    config = {key: value for key, value in config.items() if value is not ABSENT}
    (model / "config.json").write_text(json.dumps(config))
    return model


def make_model(folder, family, change):
    """model/ with the config.json, and weights that transformers made of it."""
    path = write_config(folder, family, change)
    torch.manual_seed(3)
    config = AutoConfig.from_pretrained(path)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager", dtype=torch.float32)
    with torch.no_grad():  # far from what initialisation leaves alike, and attention far from flat
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    model.save_pretrained(folder / "saved")
    shutil.copy(folder / "saved" / "model.safetensors", path)
    return model


def evaluate(folder, model="model"):
    return memo("eval", folder / model, "--data", folder / "book.txt", "--context", CONTEXT, "--json")


@pytest.mark.parametrize("family, change", cases(HONOURED))
def test_a_change_is_honoured(folder, window, family, change):
    with torch.no_grad():
        expected = loss_of(make_model(folder, family, change), window).item()
    assert evaluate(folder).json()["loss"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("family, change", cases(REFUSED))
def test_a_change_is_refused_by_name(folder, window, family, change):
    write_config(folder, family, change)
    line = evaluate(folder).refusal(2)
    assert str(folder / "model" / "config.json") in line
    names = list(change) + [key for value in change.values() if isinstance(value, dict) for key in value]
    names += ["rope_type", change.get("model_type")]  # a kind that is not supported, and a family
    assert any(f"'{name}'" in line or f".{name}'" in line for name in names), line


@pytest.mark.parametrize("family", HONOURED)
def test_every_key_of_the_class_is_among_them(family):
    known = {key for table in (HONOURED, REFUSED) for change in table[family] for key in change} | NOTHING
    if family != "gpt2":
        known |= {"hidden_act", "attention_dropout", "rope_parameters", "is_encoder_decoder"}
    names = {field.name for field in fields(type(CONFIGS[family])) if not field.name.startswith("_")}
    assert names - known - {"n_positions", "dtype", "architectures", "is_encoder_decoder", "max_position_embeddings"} == set()


@pytest.mark.parametrize("change", [ROPES[5], ROPES[9], ROPES[20], ROPES[22], ROPES[15], WINDOWS[1]], ids=str)
def test_a_checkpoint_keeps_it(folder, job, window, change):
    make_model(folder, "qwen2", change)
    summary = memo("train", job(model={"path": "model"}, train=TRAIN | {"steps": 2, "checkpoint_every": 1}), "--out",
                   folder / "run", "--json").json()  # fmt: skip
    checkpoint = folder / "run" / "checkpoint-1"
    with torch.no_grad():
        assert summary["loss_last"] == pytest.approx(loss_of(open_model(checkpoint), window).item(), rel=1e-5)
    assert summary["loss_last"] == pytest.approx(evaluate(folder, checkpoint).json()["loss"], rel=1e-6)


def test_documents_apart_do_not_go_with_dynamic_frequencies(folder, job, window):
    make_model(folder, "llama", ROPES[9])
    data = {"files": ["book.txt"], "documents": "apart"}
    line = memo("train", job(model={"path": "model"}, train=TRAIN, data=data), "--out", folder / "run").refusal(2)
    assert "data.documents" in line and "dynamic" in line


def test_numbers_that_only_python_writes_are_read_and_kept(folder, job, window):
    """Infinity and NaN of keys that say nothing here; a string that looks like one stays a string."""
    odd = {"time_step_limit": [0.0, float("inf")], "low": float("-inf"), "none": float("nan"), "name": 'a "NaN" -Infinity'}
    model = make_model(folder, "llama", odd)
    assert "Infinity" in (folder / "model" / "config.json").read_text()
    summary = memo("train", job(model={"path": "model"}, train=TRAIN | {"steps": 1}), "--out", folder / "run", "--json").json()
    with torch.no_grad():
        assert summary["loss_first"] == pytest.approx(loss_of(model, window).item(), rel=1e-5)
    saved = json.loads((folder / "run" / "checkpoint-1" / "config.json").read_text())
    assert saved["time_step_limit"] == odd["time_step_limit"] and saved["low"] == odd["low"] and saved["name"] == odd["name"]
    assert saved["none"] != saved["none"]
    assert memo("train", job(model={"path": "model"}, train=TRAIN | {"steps": 2}), "--out", folder / "run", "--resume").code == 0
