"""Model folders as hubs and tools leave them: weights are found and read by whatever name they go, or refused in one
line; nothing trains on weights that were not there without being told."""

import json

import pytest
import torch
import transformers
from conftest import memo
from safetensors.torch import load_file, save_file
from test_huggingface import CONFIGS, CONTEXT, TRAIN, loss_of, make_model, window  # noqa: F401 (window is a fixture)
from transformers import AutoModelForCausalLM

LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22e\nsize 4976698672\n"
transformers.logging.set_verbosity_error()


@pytest.fixture
def model(folder):
    """model/ as transformers saves it."""
    make_model("llama").save_pretrained(folder / "model")
    return folder / "model"


@pytest.fixture
def bare(model):
    """A config alone."""
    (model / "model.safetensors").unlink()
    return model


def evaluate(folder):
    return memo("eval", folder / "model", "--data", folder / "book.txt", "--context", CONTEXT, "--json")


def train(folder, job, *more):
    file = job(model={"path": "model"}, train=TRAIN | {"steps": 1})
    return memo("train", file, "--out", folder / "run", *more)


def refused_by_all(folder, job, *parts):
    """By every verb that reads weights, before anything is measured."""
    compared = memo("compare", job(model={"path": "model"}, train=TRAIN), "--out", folder / "compared")
    for run in train(folder, job), compared, evaluate(folder):
        line = run.refusal(2)
        assert "profile:" not in run.err
        for part in parts:
            assert str(part) in line, line
    assert not (folder / "run" / "metrics.jsonl").exists()


def change_weights(model, change):
    """The file's tensors, as `change` makes them of the old ones."""
    tensors = {name: tensor.clone() for name, tensor in load_file(model / "model.safetensors").items()}
    save_file(change(tensors), model / "model.safetensors", {"format": "pt"})


class TestNoWeights:
    WITH_A_CONFIG = ["tokenizer.json", "tokenizer.model", "merges.txt", "README.md", "LICENSE", ".gitattributes", "a.png"]

    def test_begin_at_random_and_that_is_said(self, folder, job, bare, window):
        for name in self.WITH_A_CONFIG:
            (bare / name).write_bytes(b"\x0a\x00\x01" if name.endswith((".model", ".png")) else b"{}")
        (bare / ".cache" / "huggingface").mkdir(parents=True)
        (bare / ".cache" / "huggingface" / "x.lock").write_bytes(b"\0")
        run = train(folder, job)
        assert run.code == 0, run.err
        lines = [line for line in run.err.splitlines() if "random" in line]
        assert lines == [f"{bare}: holds no weights; training begins with random ones (seed 1)"]

    def test_that_the_job_asks_for_are_not_worth_a_line(self, folder, job):
        run = memo("train", job(train={"steps": 1}), "--out", folder / "run")
        assert run.code == 0 and "random" not in run.err

    def test_plans_need_none(self, folder, job, bare):
        (bare / "model.gguf").write_bytes(b"GGUF")
        assert memo("plan", job(model={"path": "model"}, train=TRAIN), "-o", folder / "plan.json").code == 0

    def test_cannot_be_evaluated(self, folder, bare, window):
        assert "holds no weights" in evaluate(folder).refusal(2)


class TestOtherForms:
    @pytest.mark.parametrize(
        "name",
        ["model.gguf", "consolidated.00.pth", "tf_model.h5", "model.bin", "pytorch_model.bin", "flax_model.msgpack",
         "weights.pt", "last.ckpt", "model.onnx", "pytorch_model.bin.index.json", "consolidated.safetensors",
         "model-00001-of-00002.safetensors", "adapter_model.safetensors", "adapter_config.json", "model.fp16.safetensors",
         "weights", "weights.unheard-of", "original/consolidated.00.pth", "checkpoint-500/model.safetensors",
         "final.model"],
    )  # fmt: skip
    def test_are_refused_by_name(self, folder, job, bare, window, name):
        (bare / name).parent.mkdir(exist_ok=True)
        (bare / name).write_bytes(b"\0\1" * 40)
        refused_by_all(folder, job, (bare / name).parent, "name that folder" if "-500" in name else bare / name)

    @pytest.mark.parametrize("content", ["", LFS, "weights"])
    def test_are_told_by_their_names_too(self, folder, job, bare, window, content):
        (bare / "model.gguf").write_text(content)
        refused_by_all(folder, job, bare / "model.gguf")

    def test_beside_safetensors_are_not_read(self, folder, job, model, window):
        for name in "pytorch_model.bin", "model.gguf", "training_args.bin", "original/consolidated.00.pth":
            (model / name).parent.mkdir(exist_ok=True)
            (model / name).write_bytes(b"\0")
        with torch.no_grad():
            assert evaluate(folder).json()["loss"] == pytest.approx(loss_of(make_model("llama"), window).item(), rel=1e-5)

    def test_an_adapter_beside_its_model_is_not_left_out_in_silence(self, folder, job, model, window):
        (model / "adapter_config.json").write_text("{}")
        refused_by_all(folder, job, "adapter_config.json", "merge")


class TestShards:
    @pytest.fixture
    def sharded(self, folder):
        make_model("llama").save_pretrained(folder / "model", max_shard_size="100KB")
        return folder / "model"

    def test_are_read(self, folder, sharded, window):
        index = sharded / "model.safetensors.index.json"
        index.write_text(index.read_text().replace('"metadata": {', '"metadata": {"loss": NaN, ', 1))
        with torch.no_grad():
            assert evaluate(folder).json()["loss"] == pytest.approx(loss_of(make_model("llama"), window).item(), rel=1e-5)

    def test_that_are_missing_are_named(self, folder, job, sharded, window):
        shard = sorted(sharded.glob("model-*.safetensors"))[1]
        shard.unlink()
        refused_by_all(folder, job, shard, "is missing")
        shard.symlink_to("../../blobs/4d7a")
        refused_by_all(folder, job, shard, "is a link to ../../blobs/4d7a, which is not there")
        shard.unlink()
        shard.write_text(LFS)
        refused_by_all(folder, job, shard, "Git LFS pointer", "git lfs pull")

    def test_that_share_a_tensor_are_refused(self, folder, job, sharded, window):
        first, second = sorted(sharded.glob("model-*.safetensors"))[:2]
        tensors = load_file(first)
        name = sorted(tensors)[0]
        tensors = {key: value.clone() for key, value in (load_file(second) | {name: tensors[name] + 1}).items()}
        save_file(tensors, second)
        refused_by_all(folder, job, name, first.name, second.name)


class TestNames:
    """What tools make of the class's names, tensor by tensor."""

    GPT2_BUFFERS = {
        f"h.{layer}.attn.{name}": torch.ones(shape)
        for layer in (0, 1)
        for name, shape in (("bias", (1, 1, 8, 8)), ("masked_bias", ()))
    }
    INVERSE = {f"model.layers.{layer}.self_attn.rotary_emb.inv_freq": torch.ones(8) for layer in (0, 1)}
    CHANGES = {
        "hub": ("gpt2", lambda t: {k.removeprefix("transformer."): v for k, v in t.items()} | TestNames.GPT2_BUFFERS),
        "buffers": ("gpt2", lambda t: t | {f"transformer.{k}": v for k, v in TestNames.GPT2_BUFFERS.items()}),
        "old": ("llama", lambda t: t | TestNames.INVERSE),
        "below": ("llama_tied", lambda t: {k.removeprefix("model."): v for k, v in t.items()}),
        "below_with_head": ("llama", lambda t: {k.removeprefix("model."): v for k, v in t.items()}),
        "compiled": ("qwen3", lambda t: {f"_orig_mod.{k}": v for k, v in t.items()}),
        "parallel": ("qwen2", lambda t: {f"module.{k}": v for k, v in t.items()}),
        "both": ("gpt2", lambda t: {f"module._orig_mod.{k}": v for k, v in t.items()}),
        "layers_compiled": (
            "llama", lambda t: {k.replace(".0.", ".0._orig_mod.").replace(".1.", ".1._orig_mod."): v for k, v in t.items()}
        ),
        "sharded": ("mistral", lambda t: {k.replace(".0.", ".0._fsdp_wrapped_module."): v for k, v in t.items()}),
        "tied_head": ("llama_tied", lambda t: t | {"lm_head.weight": t["model.embed_tokens.weight"].clone()}),
        "tied_head_alone": (
            "llama_tied", lambda t: {k.replace("model.embed_tokens", "lm_head"): v for k, v in t.items()}
        ),
        "float16": ("llama", lambda t: {k: v.half() for k, v in t.items()}),
        "bfloat16": ("llama", lambda t: {k: v.bfloat16() for k, v in t.items()}),
    }  # fmt: skip

    @pytest.mark.parametrize("name", CHANGES)
    def test_are_read(self, folder, window, name):
        family, change = self.CHANGES[name]
        model = make_model(family)
        model.save_pretrained(folder / "model")
        change_weights(folder / "model", change)
        if name.endswith("float16"):
            dtype = getattr(torch, name)
            model = model.to(dtype).float()
        with torch.no_grad():
            expected = loss_of(model, window).item()
        run = evaluate(folder)
        assert run.json()["loss"] == pytest.approx(expected, rel=1e-5)
        assert "left out" not in run.err

    @pytest.mark.parametrize("family", ["gpt2", "llama_tied", "qwen2_tied"])
    def test_of_a_base_model_are_read(self, folder, job, window, family):
        CONFIGS_TIED = CONFIGS | {
            "qwen2_tied": type(CONFIGS["qwen2"])(**CONFIGS["qwen2"].to_dict() | {"tie_word_embeddings": True})
        }
        torch.manual_seed(1)
        model = AutoModelForCausalLM.from_config(CONFIGS_TIED[family], dtype=torch.float32)
        model.base_model.save_pretrained(folder / "model")
        with torch.no_grad():
            assert evaluate(folder).json()["loss"] == pytest.approx(loss_of(model, window).item(), rel=1e-5)
        summary = train(folder, job, "--json").json()
        saved = AutoModelForCausalLM.from_pretrained(folder / "run" / "checkpoint-1", dtype=torch.float32)
        assert json.loads((folder / "run" / "checkpoint-1" / "config.json").read_text())["architectures"] == [
            type(model).__name__
        ]
        with torch.no_grad():
            assert summary["loss_first"] == pytest.approx(loss_of(model, window).item(), rel=1e-5)
            assert loss_of(saved, window) < summary["loss_first"]

    REFUSED = {
        "base_without_head": (
            lambda t: {k.removeprefix("model."): v for k, v in t.items() if "lm_head" not in k},
            "lm_head.weight",
        ),
        "some_missing": (lambda t: {k: v for k, v in t.items() if ".1.mlp.up" not in k}, "model.layers.1.mlp.up_proj.weight"),
        "two_prefixes": (lambda t: t | {"_orig_mod." + k: v + 1 for k, v in t.items()}, "two names of one"),
        "both_forms": (lambda t: t | {k.removeprefix("model."): v + 1 for k, v in t.items() if "norm" in k}, "two names of one"),
        "another_model": (lambda t: {f"encoder.{k}": v for k, v in t.items()}, "of another model"),
        "int8": (lambda t: {k: (v * 10).to(torch.int8) for k, v in t.items()}, "I8"),
        "float8": (lambda t: {k: v.to(torch.float8_e4m3fn) for k, v in t.items()}, "F8_E4M3"),
        "transposed": (lambda t: {k: v.t().contiguous() if "up_proj" in k else v for k, v in t.items()}, "[64, 96]"),
    }  # fmt: skip

    @pytest.mark.parametrize("name", REFUSED)
    def test_are_refused(self, folder, job, model, window, name):
        change, says = self.REFUSED[name]
        change_weights(model, change)
        refused_by_all(folder, job, model, says)

    def test_of_a_tied_head_that_differs_is_refused(self, folder, window):
        make_model("llama_tied").save_pretrained(folder / "model")
        change_weights(folder / "model", lambda t: t | {"lm_head.weight": t["model.embed_tokens.weight"] + 1})
        assert "tie_word_embeddings" in evaluate(folder).refusal(2)

    @pytest.mark.parametrize(
        "more", ["model.layers.2.mlp.up_proj.weight", "model.layers.0.self_attn.q_proj.bias", "v_head.weight"]
    )
    def test_that_the_model_lacks_are_told(self, folder, job, model, window, more):
        change_weights(model, lambda t: t | {more: torch.ones(3)})
        for run in train(folder, job), evaluate(folder):
            assert run.code == 0, run.err
            (line,) = [line for line in run.err.splitlines() if "left out" in line]
            assert more in line and "1 tensor(s)" in line


class TestWhatLiesInAFilesPlace:
    CONTENTS = {
        LFS: ["is a Git LFS pointer, not the file of 4.63 GiB", "git lfs pull"],
        "<!DOCTYPE html>\n<html><head></head></html>": ["is a web page", "download it again"],
        "": ["is empty", "download it again"],
    }

    @pytest.mark.parametrize("name", ["model.safetensors", "config.json", "model.safetensors.index.json"])
    @pytest.mark.parametrize("content", CONTENTS)
    def test_is_said(self, folder, job, model, window, name, content):
        if name == "model.safetensors.index.json":
            (model / "model.safetensors").unlink()
        (model / name).write_text(content)
        refused_by_all(folder, job, model / name, *self.CONTENTS[content])

    def test_a_link_to_nothing(self, folder, job, model, window):
        for name in "model.safetensors", "config.json":
            (model / name).unlink()
            (model / name).symlink_to("../../blobs/4d7a")
            refused_by_all(folder, job, model / name, "is a link to ../../blobs/4d7a, which is not there")
