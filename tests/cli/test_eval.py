"""`memo eval`: losses over a text, against transformers."""

import json

import pytest
import torch
from conftest import memo
from test_huggingface import CONTEXT, FAMILIES, make_model
from torch.nn.functional import cross_entropy

WINDOWS = 3


@pytest.fixture
def text(folder, book):
    """Whole windows, which share a token, and some bytes that fill none."""
    data = book[500 : 500 + WINDOWS * CONTEXT + 1 + CONTEXT // 2]
    (folder / "held_out.txt").write_bytes(data)
    return data


def losses_of(model, text):
    """# [WINDOWS, CONTEXT]"""
    rows = []
    for start in range(0, WINDOWS * CONTEXT, CONTEXT):
        window = torch.tensor(list(text[start : start + CONTEXT + 1]))
        with torch.no_grad():
            rows.append(cross_entropy(model(window[None, :-1]).logits[0].float(), window[1:], reduction="none"))
    return torch.stack(rows)


def evaluate(model, folder, *more):
    return memo("eval", model, "--data", folder / "held_out.txt", "--context", CONTEXT, "--json", *more)


@FAMILIES
def test_every_position_has_the_loss_that_transformers_gives(folder, text, family):
    model = make_model(family)
    model.save_pretrained(folder / "model")
    expected = losses_of(model, text)
    for block in 64, 1024:
        found = evaluate(folder / "model", folder, "--block", block).json()
        assert found["windows"] == WINDOWS and found["tokens"] == WINDOWS * CONTEXT
        assert found["loss"] == pytest.approx(expected.mean().item(), rel=1e-5)
        assert found["by_position"] == pytest.approx(expected.mean(0).tolist(), rel=1e-4, abs=1e-5)


def test_bfloat16_is_near(folder, text):
    model = make_model("llama")
    model.save_pretrained(folder / "model")
    found = evaluate(folder / "model", folder, "--dtype", "bfloat16").json()
    expected = losses_of(model, text).mean().item()
    assert found["loss"] == pytest.approx(expected, rel=0.02) and found["loss"] != pytest.approx(expected, rel=1e-7)


def test_a_run_is_its_newest_checkpoint(folder, job, text):
    memo("train", job(train=dict(steps=2, checkpoint_every=1)), "--out", folder / "run", "--json").json()
    of_run = evaluate(folder / "run", folder).json()
    assert of_run == evaluate(folder / "run" / "checkpoint-2", folder).json()
    assert json.loads((folder / "run" / "eval.json").read_text()) == of_run  # for the run's report
    assert of_run["loss"] != evaluate(folder / "run" / "checkpoint-1", folder).json()["loss"]


def test_fewer_windows(folder, text):
    model = make_model("llama")
    model.save_pretrained(folder / "model")
    found = evaluate(folder / "model", folder, "--windows", 2).json()
    assert found["windows"] == 2
    assert found["loss"] == pytest.approx(losses_of(model, text)[:2].mean().item(), rel=1e-5)


def test_the_table_has_rows_by_powers_of_two(folder, book):
    model = make_model("llama")
    model.save_pretrained(folder / "model")
    run = memo("eval", folder / "model", "--data", folder / "book.txt", "--context", 700, "--windows", 1)
    assert run.code == 0, run.err
    assert [line.rsplit(maxsplit=1)[0].strip() for line in run.out.splitlines()[2:]] == ["0 to 255", "256 to 511", "512 to 699"]


def test_what_cannot_be_evaluated_is_said_in_one_line(folder, text):
    make_model("gpt2").save_pretrained(folder / "model")
    held_out = folder / "held_out.txt"
    assert "config.json" in memo("eval", folder, "--data", held_out, "--context", 8).refusal(2)
    assert "257" in memo("eval", folder / "model", "--data", held_out, "--context", 257).refusal(2)
    assert "none.txt" in memo("eval", folder / "model", "--data", folder / "none.txt", "--context", 8).refusal(2)
    (folder / "short.txt").write_text("short")
    assert "a context of 8 needs 9" in memo("eval", folder / "model", "--data", folder / "short.txt", "--context", 8).refusal(2)
    (folder / "model" / "model.safetensors").unlink()
    assert "model" in evaluate(folder / "model", folder).refusal(2)
    shape = json.loads((folder / "model" / "config.json").read_text())
    (folder / "model" / "config.json").write_text(json.dumps(shape | {"vocab_size": 100}))
    assert "token" in evaluate(folder / "model", folder).refusal(2)
