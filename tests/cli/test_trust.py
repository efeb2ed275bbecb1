"""What a run does against silent corruption and hangs: check mode, checksums, the watchdog."""

import json
import re

import pytest

from conftest import memo

DEEP = dict(family="llama", hidden=64, layers=6, heads=4, kv_heads=4, ffn=128, vocab=256)
TRAIN = {"context": 512, "block": 64, "steps": 2, "min_lr_ratio": 1}


def digests(run):
    summary = run.json()
    assert summary["departures"] == 0, summary["first_departure"]
    return summary["loss_digest"], summary["grad_digest"]


def smallest_limit(job):
    return int(re.search(r"\((\d+) bytes\)", memo("plan", job).refusal(3))[1])


@pytest.fixture
def paged(job, disk):
    """A job under the least limit that works: every kind of tensor travels."""
    def write(train=None, model=None, **memory):
        tables = dict(model=DEEP | (model or {}), train=TRAIN | (train or {}))
        memory = {"disk": disk, "disk_limit": "64MiB"} | memory
        least = smallest_limit(job(**tables, memory=memory | {"device_limit": "64KiB"}))
        return job(**tables, memory=memory | {"device_limit": least})
    return write


def checked(run):
    return re.findall(r"check: step (\d+) ran clean: (\d+) accesses of three streams, (\d+) pairs in conflict", run.err)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("batch", [1, 2])
def test_check_mode_runs_clean_and_changes_no_bit(folder, paged, dtype, batch):
    file = paged(train={"batch": batch}, model={"dtype": dtype})
    first = memo("train", file, "--out", folder / "first", "--json")
    every = memo("train", file, "--out", folder / "every", "--json", "--check")
    off = memo("train", file, "--out", folder / "off", "--json", "--check=off")
    assert digests(first) == digests(every) == digests(off)
    assert [step for step, *_ in checked(first)] == ["1"]
    assert [step for step, *_ in checked(every)] == ["1", "2"]
    assert checked(off) == []
    assert all(int(accesses) > 100 and int(conflicts) > 100 for _, accesses, conflicts in checked(every))


@pytest.mark.parametrize("strategy", ["resident", "recompute", "offload", "memo-alpha"])
def test_every_strategy_runs_clean(folder, job, disk, strategy):
    file = job(model=DEEP, train=TRAIN, memory={"disk": disk, "disk_limit": "64MiB"})
    run = memo("train", file, "--out", folder / "out", "--strategy", strategy, "--check", "--json")
    digests(run)
    assert len(checked(run)) == 2


def test_an_unknown_check_is_refused(folder, job):
    line = memo("train", job(), "--out", folder / "out", "--check=often").refusal(2)
    assert "--check" in line and "often" in line


def test_a_flipped_bit_ends_the_run_with_the_tensor(folder, paged):
    file = paged()
    run = memo("train", file, "--out", folder / "out", "--faults", "1:0.02:flipped bit")
    line = run.refusal(5)
    assert re.search(r"[a-z]\w*(\.\w+)?, layer \d", line), line
    assert "disk tier" in line and "are not what was written there" in line
    assert not (folder / "out" / "summary.json").exists()


def test_without_checksums_nobody_notices(folder, paged):
    """So that the test above can fail."""
    clean = digests(memo("train", paged(), "--out", folder / "clean", "--json"))
    file = paged(checksums="none")
    run = memo("train", file, "--out", folder / "out", "--json", "--faults", "3:0.01:flipped bit")
    assert run.code != 0 or digests(run) != clean


@pytest.mark.parametrize("kind, says", [("disk full", "No space left on device"), ("I/O error", "Input/output error"),
                                        ("torn write", "are not what was written"),
                                        ("lost write", "are not what was written"),
                                        ("short read", "are not what was written")])
def test_faults_of_the_disk_end_in_a_named_error(folder, paged, kind, says):
    line = memo("train", paged(), "--out", folder / "out", "--faults", f"1:0.02:{kind}").refusal(5)
    assert "disk tier" in line and says in line


def test_a_disk_that_hangs_ends_the_run_with_what_it_waits_for(folder, paged):
    file = paged(watchdog=1)
    line = memo("train", file, "--out", folder / "out", "--faults", "1:0.02:stall").refusal(5)
    assert "nothing has moved for 1.00 s" in line and "disk tier: a " in line
    assert "go on with --resume" in line


def test_after_a_failure_the_run_goes_on_from_its_checkpoint(folder, paged):
    whole = digests(memo("train", paged(train={"steps": 4}), "--out", folder / "whole", "--json"))
    out = folder / "out"
    assert memo("train", paged(train={"steps": 2}), "--out", out, "--json").code == 0
    file = paged(train={"steps": 4})
    memo("train", file, "--out", out, "--resume", "--faults", "1:0.05:flipped bit").refusal(5)
    assert json.loads((out / "checkpoint-2" / "state.json").read_text())["step"] == 2
    assert digests(memo("train", file, "--out", out, "--resume", "--json")) == whole
