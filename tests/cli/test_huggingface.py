"""Models of Hugging Face's transformers go in and come out: same losses, same training step, folders that it opens."""

import json
import math

import pytest
import torch
import transformers
from conftest import memo
from safetensors import safe_open
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config

CONTEXT = 200  # in blocks of 64: three whole ones and one of 8 tokens
SIZES = dict(
    vocab_size=256, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=256, bos_token_id=None, eos_token_id=None,
)  # fmt: skip
CONFIGS = {
    "gpt2": GPT2Config(
        vocab_size=256, n_embd=64, n_layer=2, n_head=4, n_positions=256, n_inner=96,
        resid_pdrop=0.0, attn_pdrop=0.0, embd_pdrop=0.0, bos_token_id=None, eos_token_id=None,
    ),
    "llama": LlamaConfig(**SIZES),
    "llama_tied": LlamaConfig(**SIZES, tie_word_embeddings=True),
    "mistral": MistralConfig(**SIZES, sliding_window=None),
    "qwen2": Qwen2Config(**SIZES),
    "qwen3": Qwen3Config(**SIZES, head_dim=32),
}  # fmt: skip
FAMILIES = pytest.mark.parametrize("family", CONFIGS)
TRAIN = dict(context=CONTEXT, block=64, lr=1e-3)
transformers.logging.set_verbosity_error()


@pytest.fixture
def window(folder, book):
    """The only sample of a file of context + 1 bytes is all of it."""
    text = book[1000 : 1000 + CONTEXT + 1]
    (folder / "book.txt").write_bytes(text)
    return torch.tensor(list(text))


def make_model(family):
    torch.manual_seed(3)
    model = AutoModelForCausalLM.from_config(CONFIGS[family], attn_implementation="eager", dtype=torch.float32)
    with torch.no_grad():  # far from what initialisation leaves alike: biases of 0, norms of 1
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return model


def open_model(folder, dtype=torch.float32):
    model, loading = AutoModelForCausalLM.from_pretrained(
        folder, attn_implementation="eager", dtype=dtype, output_loading_info=True
    )
    assert not loading["missing_keys"] and not loading["unexpected_keys"] and not loading["mismatched_keys"]
    return model


def loss_of(model, window):
    return cross_entropy(model(window[None, :-1]).logits[0].float(), window[1:])


def rate_at(step, steps, lr, warmup_steps, min_lr_ratio):
    """docs/formats.md: cosine from lr to lr * min_lr_ratio after a linear warm-up."""
    if step < warmup_steps:
        return lr * step / warmup_steps
    progress = (step - warmup_steps) / (steps - warmup_steps)
    return lr * (min_lr_ratio + (1 - min_lr_ratio) * (1 + math.cos(math.pi * progress)) / 2)


@FAMILIES
def test_loss_and_checkpoints_are_those_of_transformers(folder, job, window, family):
    model = make_model(family)
    model.save_pretrained(folder / "model")
    file = job(model={"path": "model"}, train=TRAIN | {"steps": 2, "checkpoint_every": 1})
    summary = memo("train", file, "--out", folder / "run", "--json").json()
    with torch.no_grad():
        assert summary["loss_first"] == pytest.approx(loss_of(model, window).item(), rel=1e-5)
        after_one_step = open_model(folder / "run" / "checkpoint-1")
        assert summary["loss_last"] == pytest.approx(loss_of(after_one_step, window).item(), rel=1e-5)
    assert summary["loss_last"] < summary["loss_first"] - 0.01
    saved = json.loads((folder / "run" / "checkpoint-2" / "config.json").read_text())
    assert saved["model_type"] == model.config.model_type and saved["architectures"] == [type(model).__name__]


@FAMILIES
def test_three_steps_are_those_of_adamw(folder, job, window, family):
    """Clipped gradients, warm-up and cosine, decay of matrices only: against torch.optim.AdamW."""
    model = make_model(family)
    model.save_pretrained(folder / "model")
    # eps of the gradients' size: with a smaller one the first steps are the gradients' signs, whose rounding shows.
    rate = dict(lr=2e-3, warmup_steps=2, min_lr_ratio=0.2)
    train = TRAIN | rate | dict(steps=3, beta1=0.8, beta2=0.9, eps=1e-4, weight_decay=0.3, clip=0.5)
    summary = memo("train", job(model={"path": "model"}, train=train), "--out", folder / "run", "--json").json()

    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": 0.3},
        {"params": [p for p in parameters if p.dim() == 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=0.0, betas=(0.8, 0.9), eps=1e-4)
    metrics = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    for step in 1, 2, 3:
        optimizer.zero_grad()
        loss = loss_of(model, window)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(parameters, 0.5).item()
        assert norm > 0.5  # the gradients are clipped
        for group in optimizer.param_groups:
            group["lr"] = rate_at(step, 3, **rate)
        optimizer.step()
        line = metrics[step - 1]
        assert line["step"] == step
        assert line["lr"] == pytest.approx(rate_at(step, 3, **rate), rel=1e-12)
        assert line["loss"] == pytest.approx(loss.item(), rel=1e-5)
        assert line["gradient_norm"] == pytest.approx(norm, rel=1e-4)

    assert summary["steps"] == 3
    trained = open_model(folder / "run" / "checkpoint-3").state_dict()
    for name, expected in model.state_dict().items():
        error = (trained[name] - expected).norm() / expected.norm()
        assert error < 1e-5, f"{name}: {error:.1e}"


def test_a_model_in_shards(folder, job, window):
    model = make_model("llama")
    model.save_pretrained(folder / "model", max_shard_size="100KB")
    assert len(list((folder / "model").glob("model-*.safetensors"))) > 2
    summary = memo("train", job(model={"path": "model"}, train=TRAIN | {"steps": 1}), "--out", folder / "run", "--json")
    with torch.no_grad():
        assert summary.json()["loss_first"] == pytest.approx(loss_of(model, window).item(), rel=1e-5)


def test_bfloat16_checkpoints_are_bfloat16_and_open(folder, job, window):
    make_model("llama").save_pretrained(folder / "model")
    file = job(model={"path": "model", "dtype": "bfloat16"}, train=TRAIN | {"steps": 2, "checkpoint_every": 1})
    summary = memo("train", file, "--out", folder / "run", "--json").json()
    checkpoint = folder / "run" / "checkpoint-1"
    with safe_open(checkpoint / "model.safetensors", "pt") as tensors:
        assert {str(tensors.get_tensor(name).dtype) for name in tensors.keys()} == {"torch.bfloat16"}
    model = open_model(checkpoint, dtype="auto")
    assert model.dtype == torch.bfloat16
    with torch.no_grad():  # bfloat16 has 8 bits, and rounds in other places
        assert summary["loss_last"] == pytest.approx(loss_of(model, window).item(), rel=5e-3)


def test_random_weights_open_too(folder, job, window):
    """A shape from job.toml instead of a folder: what was initialised is a model as good as any."""
    summary = memo("train", job(train=TRAIN | {"checkpoint_every": 1}), "--out", folder / "run", "--json").json()
    with torch.no_grad():
        loss = loss_of(open_model(folder / "run" / "checkpoint-1"), window).item()
    assert summary["loss_last"] == pytest.approx(loss, rel=1e-5)
    assert summary["loss_first"] == pytest.approx(math.log(256), rel=0.02)
