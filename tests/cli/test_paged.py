"""A model whose weights and optimizer state alone are several times the device limit trains, to the same bits."""

import json
import re

import pytest
from conftest import memo, slow

DEEP = dict(family="llama", hidden=128, layers=16, heads=4, kv_heads=2, ffn=384, vocab=256)
TRAIN = {"context": 192, "block": 64, "steps": 3}


def state_bytes(model, dtype="float32"):
    """Weights, gradients and optimizer state: 16 bytes a parameter, or 2 + 4 + 12."""
    h, layers, ffn, vocab = (model[key] for key in ("hidden", "layers", "ffn", "vocab"))
    key = model["kv_heads"] * h // model["heads"]
    layer = h * (h + 2 * key) + h * h + 3 * h * ffn + 2 * h
    return (layers * layer + 2 * vocab * h + h) * (16 if dtype == "float32" else 18)


def smallest_limit(job):
    return int(re.search(r"\((\d+) bytes\)", memo("plan", job).refusal(3))[1])


def train(job, out, *options):
    return memo("train", job, "--out", out, "--json", *options).json()


@pytest.mark.parametrize("dtype, batch", [("float32", 2), ("bfloat16", 1), slow("float32", 1), slow("bfloat16", 2)])
def test_state_of_three_times_the_limit_trains_to_the_same_bits(folder, job, disk, dtype, batch):
    tables = dict(model=DEEP | {"dtype": dtype}, train=TRAIN | {"batch": batch})
    memory = {"disk": disk, "disk_limit": "256MiB"}
    free = train(job(**tables, memory=memory), folder / "free")
    least = smallest_limit(job(**tables, memory=memory | {"device_limit": "1MiB"}))
    assert 3 * least < state_bytes(DEEP, dtype)
    paged = train(job(**tables, memory=memory | {"device_limit": least}), folder / "paged")
    assert (paged["loss_digest"], paged["grad_digest"]) == (free["loss_digest"], free["grad_digest"])
    assert paged["device_peak_bytes"] <= least and paged["departures"] == 0
    assert paged["bytes_out"] > 0.5 * state_bytes(DEEP, dtype), "moments, masters and gradients leave each step"
    for name in "model.safetensors", "state.safetensors":
        a, b = (next((folder / run).glob(f"checkpoint-*/{name}")).read_bytes() for run in ("free", "paged"))
        assert a == b, name


@pytest.mark.parametrize("percent", [20, slow(40), 60, slow(80), 95])
def test_as_little_is_paged_as_the_limit_asks_for(folder, job, disk, percent):
    """Between what everything needs and what the smallest plan needs, plans hold and fit."""
    memory = {"disk": disk, "disk_limit": "256MiB"}
    tables = dict(model=DEEP, train=TRAIN | {"steps": 2})
    free = memo("plan", job(**tables, memory=memory), "--json").json()["device_peak_bytes"]
    least = smallest_limit(job(**tables, memory=memory | {"device_limit": "1MiB"}))
    limit = least + (free - least) * percent // 100
    run = train(job(**tables, memory=memory | {"device_limit": limit}), folder / "out")
    assert run["device_peak_bytes"] <= limit and run["departures"] == 0
    assert run["device_peak_bytes_predicted"] > 0.8 * limit, "the limit is used"


def test_a_paged_run_is_resumed_without_a_limit_and_the_other_way_round(folder, job, disk):
    memory = {"disk": disk, "disk_limit": "256MiB"}
    tables = dict(model=DEEP)
    steps = lambda n: {"train": TRAIN | {"steps": n}}
    least = smallest_limit(job(**tables, **steps(4), memory=memory | {"device_limit": "1MiB"}))
    whole = train(job(**tables, **steps(4), memory=memory), folder / "whole")
    for first, then in ({}, {"device_limit": least}), ({"device_limit": least}, {}):
        out = folder / ("free first" if not first else "paged first")
        # The schedule of the learning rate is that of four steps; two are made, then the process ends.
        half = job(**tables, **steps(4), memory=memory | first)
        train(half, out, "--set", "train.checkpoint_every=2")
        (out / "checkpoint-4").rename(folder / (out.name + " removed"))
        resumed = train(job(**tables, **steps(4), memory=memory | then), out, "--resume")
        assert resumed["grad_digest"] == whole["grad_digest"]
        lines = (out / "metrics.jsonl").read_text().splitlines()
        assert json.loads(lines[-1])["step"] == 4


def test_updates_come_with_backward_where_nothing_is_clipped(folder, job, disk):
    """The bits are those of updates at the end, which a norm too large to be reached asks for."""
    memory = {"disk": disk, "disk_limit": "256MiB"}
    tables = lambda clip: dict(model=DEEP, train=TRAIN | {"clip": clip})
    least = smallest_limit(job(**tables(0), memory=memory | {"device_limit": "1MiB"}))
    memory["device_limit"] = least + (1 << 20)
    early, late = (train(job(**tables(clip), memory=memory), folder / f"clip {clip}") for clip in (0, 1e9))
    assert (early["loss_digest"], early["grad_digest"]) == (late["loss_digest"], late["grad_digest"])
    assert early["departures"] == 0 and early["device_peak_bytes"] <= memory["device_limit"]
    assert early["bytes_in"] < 0.9 * late["bytes_in"], "gradients and weights are there already"
    norms = [
        [json.loads(line)["gradient_norm"] for line in (folder / f"clip {clip}" / "metrics.jsonl").read_text().splitlines()]
        for clip in (0, 1e9)
    ]
    assert norms[0] == norms[1]
    for name in "model.safetensors", "state.safetensors":
        a, b = (next((folder / f"clip {clip}").glob(f"checkpoint-*/{name}")).read_bytes() for clip in (0, 1e9))
        assert a == b, name


def test_a_plan_of_early_updates_is_refused_by_a_job_that_clips(folder, job, disk):
    tables = dict(model=DEEP, memory={"disk": disk})
    memo("plan", job(**tables, train=TRAIN | {"clip": 0}), "-o", folder / "plan.json")
    line = memo("train", job(**tables, train=TRAIN), "--plan", folder / "plan.json", "--out", folder / "out").refusal(2)
    assert "train.clip" in line
