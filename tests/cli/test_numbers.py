"""Losses that are not finite: the run stops with the state before, or skips the step; what went wrong first is named."""

import json
import re
import struct

import pytest
from conftest import SMALL, edit_tensor, memo, model_of_one_step, write_job

CONTEXT, BLOCK = 300, 64
STEPS = 8


def set_row(file, tensor, row, values):
    """Overwrites a row of a float32 tensor of a safetensors file."""

    def edit(data, begin, end, shape):
        columns = shape[1]
        struct.pack_into(f"<{columns}f", data, begin + 4 * columns * row, *values(columns))

    edit_tensor(file, tensor, edit)


@pytest.fixture
def poisoned(folder, book):
    """poisoned(text, **train) writes a job whose model has no finite embedding of '~'."""
    model = model_of_one_step(folder)
    for file in model.glob("state.*"):
        file.unlink()
    set_row(model / "model.safetensors", "model.embed_tokens.weight", ord("~"), lambda n: [float("nan")] * n)

    def write(text, **train):
        (folder / "book.txt").write_bytes(text)
        return write_job(folder / "job.toml", {"path": "model"}, {"context": CONTEXT, "block": BLOCK, "steps": STEPS} | train)

    return write


@pytest.fixture
def half_the_time(book):
    """Text of which some windows hold a '~'."""
    text = bytearray(book[: 2 * CONTEXT + 1])
    text[200] = ord("~")
    return bytes(text)


def metrics(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("place", [3, 150, 299])
def test_the_block_is_named(folder, book, poisoned, place):
    text = bytearray(book[: CONTEXT + 1])  # every window is all of it
    text[place] = ord("~")
    line = memo("train", poisoned(bytes(text)), "--out", folder / "run").refusal(5)
    assert line.startswith("memo: step 1: loss nan and gradient norm nan are not finite; the first that is not: ")
    assert re.search(rf"of embedding \(layer -?\d+, block {place // BLOCK}\)", line), line
    assert not list((folder / "run").glob("checkpoint-*")), "there is nothing to keep before step 1"


def test_weights_that_are_not_finite_name_their_layer(folder, poisoned, book):
    file = poisoned(book)
    name = "model.layers.1.mlp.up_proj.weight"
    set_row(folder / "model" / "model.safetensors", name, 5, lambda n: [float("inf")] * n)
    line = memo("train", file, "--out", folder / "run").refusal(5)
    assert re.search(r"first that is not: '\S+' of \w+ \(layer 1, block 0\)", line), line


def test_stopping_keeps_the_state_before(folder, poisoned, half_the_time):
    skipped = memo("train", poisoned(half_the_time, not_finite="skip"), "--out", folder / "skipped", "--json")
    expected = skipped.json()
    bad = [line["step"] for line in metrics(folder / "skipped") if line.get("skipped")]
    assert 0 < len(bad) < STEPS and bad[0] > 1, "some windows hold it, the first does not"
    for step in bad:
        assert f"step {step}: loss nan" in skipped.err
    assert [line["loss"] is None for line in metrics(folder / "skipped")] == [s in bad for s in range(1, STEPS + 1)]
    assert expected["steps"] == STEPS and expected["loss_first"] > 0

    out = folder / "stopped"
    file = poisoned(half_the_time)
    line = memo("train", file, "--out", out).refusal(5)
    assert line.startswith(f"memo: step {bad[0]}: ") and f"the state after step {bad[0] - 1} is saved" in line
    assert [path.name for path in out.glob("checkpoint-*")] == [f"checkpoint-{bad[0] - 1}"]

    resumed = memo("train", file, "--out", out, "--resume", "--json", "--set", "train.not_finite=skip")
    digests = "loss_digest", "grad_digest", "steps"
    assert [resumed.json()[key] for key in digests] == [expected[key] for key in digests]
    assert memo("report", out, "-o", folder / "report.html").code == 0, "a loss that is null can be shown"


def test_a_run_that_only_skips_ends(folder, poisoned, book):
    text = bytearray(book[: CONTEXT + 1])
    text[7] = ord("~")
    line = memo("train", poisoned(bytes(text), not_finite="skip", steps=30), "--out", folder / "run").refusal(5)
    assert line.startswith("memo: step 11: ")


def test_skipping_changes_nothing_of_a_finite_run(folder, job):
    digests = [memo("train", job(train={"not_finite": how}), "--out", folder / how, "--json").json()["loss_digest"]
               for how in ("stop", "skip")]
    assert digests[0] == digests[1]


def test_a_step_of_early_updates_stops_too(folder, job, disk):
    """Their updates do not wait for the norm: a learning rate that overflows ends the run all the same."""
    file = job(model=SMALL, train={"clip": 0, "steps": 6, "lr": 1e30}, memory={"disk": disk})
    assert "not finite" in memo("train", file, "--out", folder / "run").refusal(5)


def test_other_words_are_refused(folder, job):
    line = memo("train", job(train={"not_finite": "ignore"}), "--out", folder / "run").refusal(2)
    assert "train.not_finite" in line and '"stop" or "skip"' in line
