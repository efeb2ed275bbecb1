"""Where no tier holds all that should leave: parts are computed again, to the same bits."""

import json
import re

import pytest
from conftest import SMALL, memo, slow

DEEP = SMALL | {"layers": 10}
LONG = SMALL | {"layers": 12, "heads": 8, "head_dim": 16, "kv_heads": 4}


def train(job, out, *options):
    summary = memo("train", job, "--out", out, "--json", *options).json()
    assert summary["departures"] == 0, summary["first_departure"]
    return summary, placements(out / "plan.json")


def placements(file):
    plan = json.loads(file.read_text())
    classes = [cls["name"] for cls in plan["profile"]["flow"]["classes"]]
    placed = [dict(zip(plan["placement"]["columns"], row)) for row in plan["placement"]["rows"]]
    return [p | {"class": classes[p["class"]]} for p in placed]


def digests(summary):
    return summary["loss_digest"], summary["grad_digest"]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("context, block", [(1024, 256), (900, 128)])
def test_several_layers_a_checkpoint_give_the_same_bits(folder, job, dtype, context, block):
    """Without a disk, the inputs of all layers may be too much for the device."""
    tables = dict(model=DEEP | {"dtype": dtype}, train={"context": context, "block": block})
    free, _ = train(job(**tables), folder / "free")
    refused = memo("plan", job(**tables, memory={"device_limit": "64KiB"})).refusal(3)
    least = int(re.search(r"\((\d+) bytes\)", refused)[1])
    limited, placed = train(job(**tables, memory={"device_limit": least}), folder / "least")
    assert digests(limited) == digests(free)
    assert limited["device_peak_bytes"] <= least
    inputs = [p["layer"] for p in placed if p["class"] == "x" and p["recomputed"] > 0]
    assert inputs, "some layers' inputs are computed again"
    recompute = memo("plan", job(**tables, memory={"device_limit": "64KiB"}), "--strategy", "recompute").refusal(3)
    assert least < int(re.search(r"\((\d+) bytes\)", recompute)[1])


@pytest.mark.parametrize("dtype, device_limit", [slow("float32", "18MiB"), ("bfloat16", "16MiB")])
def test_attention_of_early_tokens_computed_again_gives_the_same_bits(folder, job, disk, dtype, device_limit):
    """One profile for all: the less the disk holds, the more is computed again; the first plan for only some tokens is run."""
    tables = dict(model=LONG | {"dtype": dtype}, train={"context": 4096, "block": 256, "head_groups": 2, "steps": 1})
    file = job(**tables, memory={"disk": disk, "device_limit": device_limit})
    profile = folder / "profile.json"
    assert memo("profile", file, "-o", profile).code == 0
    used = memo("plan", file, "--profile", profile, "--json").json()["tier_bytes"]["disk"]
    measured = json.loads(profile.read_text())
    for percent in 60, 40, 30, 25, 20, 15:
        (disk_tier,) = measured["tiers"]
        disk_tier["capacity_bytes"] = used * percent // 100 // 4096 * 4096
        profile.write_text(json.dumps(measured))
        plan = folder / f"{percent}.json"
        refused = memo("plan", file, "--profile", profile, "-o", plan).code != 0
        assert not refused, f"no plan at {percent} % of the disk, and none before for some tokens alone"
        if any(p["class"] == "o" and 0 < p["recomputed"] < 16 for p in placements(plan)):
            break
    free, _ = train(file, folder / "free")
    limited, _ = train(file, folder / "limited", "--plan", plan)
    assert digests(limited) == digests(free)
