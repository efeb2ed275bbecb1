"""Where saved tensors live changes no bit of the losses and gradients, and the planned peak is the measured one."""

import json
import re

import pytest
from conftest import SMALL, memo, slow, write_job

ALL = ["resident", "recompute", "offload", "memo", "memo-alpha"]
NO_TIER = ["resident", "recompute", "memo"]


def compare(job, out, strategies, *options):
    """Rows of compare.json by strategy."""
    run = memo("compare", job, "--out", out, "--strategies", ",".join(strategies), *options)
    assert run.code == 0, run.err
    rows = json.loads((out / "compare.json").read_text())["rows"]
    assert [row["strategy"] for row in rows] == strategies
    return {row["strategy"]: row for row in rows}


def summaries(rows):
    assert all(row["ran"] for row in rows.values()), rows
    return [row["summary"] for row in rows.values()]


def digests(runs):
    return {(run["loss_digest"], run["grad_digest"]) for run in runs}


# Blocks of 576 tokens: with a shorter last one, and without.
ROWS = [slow("float32", 128), ("bfloat16", 192), slow("float32", 192), slow("bfloat16", 128)]


@pytest.mark.parametrize("dtype, block", ROWS)
def test_strategies_tiers_slots_and_limits_give_the_same_bits(folder, job, disk, dtype, block):
    model = SMALL | {"layers": 4, "dtype": dtype}
    train = {"context": 576, "block": block}
    runs = summaries(compare(job(model=model, train=train), folder / "no disk", NO_TIER))
    for slots in 1, 2, 5:
        memory = {"disk": disk, "disk_limit": "8MiB", "slots": slots}
        rows = compare(job(model=model, train=train, memory=memory), folder / str(slots), ALL)
        runs += summaries(rows)
        offload = rows["offload"]["summary"]
        assert offload["bytes_out"] > 0 and offload["bytes_in"] > 0
        memory["device_limit"] = offload["device_peak_bytes_predicted"]
        options = "--profile", folder / str(slots) / "profile.json"
        rows = compare(job(model=model, train=train, memory=memory), folder / f"{slots} limited", ["memo"], *options)
        runs += summaries(rows)
        assert rows["memo"]["summary"]["device_peak_bytes"] <= memory["device_limit"]
    assert len(digests(runs)) == 1
    assert all(len(digest) == 16 for run in runs for digest in (run["loss_digest"], run["grad_digest"]))
    assert [run["departures"] for run in runs] == [0] * len(runs), [run["first_departure"] for run in runs]


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("block", [16, 128])
def test_one_block_and_many_with_head_groups(folder, job, disk, block, groups):
    file = job(
        model=SMALL | {"layers": 3, "heads": 8, "head_dim": 16},
        train={"context": 128, "block": block, "head_groups": groups},
        memory={"disk": disk, "disk_limit": "8MiB"},
    )
    runs = summaries(compare(file, folder / "out", ALL))
    assert len(digests(runs)) == 1
    assert [run["departures"] for run in runs] == [0] * len(runs), [run["first_departure"] for run in runs]


@pytest.mark.parametrize("dtype, block", ROWS)
def test_streamed_by_block_under_the_smallest_limit_gives_the_same_bits(folder, job, disk, dtype, block):
    """Nothing of the sequence's length stays on the device but one head group's operands."""
    tables = dict(model=SMALL | {"layers": 4, "dtype": dtype}, train={"context": 2000, "block": block, "head_groups": 2})
    memory = {"disk": disk, "disk_limit": "64MiB"}
    free = summaries(compare(job(**tables, memory=memory), folder / "free", ["resident"]))[0]
    refused = memo("plan", job(**tables, memory=memory | {"device_limit": "1MiB"})).refusal(3)
    least = int(re.search(r"\((\d+) bytes\)", refused)[1])
    assert least < 0.8 * free["device_peak_bytes_predicted"]
    limited = summaries(compare(job(**tables, memory=memory | {"device_limit": least}), folder / "least", ["memo"]))[0]
    plan = json.loads((folder / "least" / "memo" / "plan.json").read_text())
    assert any(row[-1] for row in plan["placement"]["rows"]), "streamed"
    assert digests([free]) == digests([limited])
    assert limited["device_peak_bytes"] <= least
    assert limited["departures"] == 0


def test_sequences_of_a_step_are_those_of_steps_one_after_the_other(folder, job, disk):
    """With a learning rate that changes no weight, the loss of a step of three is the mean of three steps' losses."""
    memory = {"disk": disk, "disk_limit": "8MiB"}
    def losses(out, **train):
        tables = dict(train={"lr": 1e-30, "weight_decay": 0} | train, memory=memory)
        rows = compare(job(**tables), folder / out, ALL)
        assert len(digests(summaries(rows))) == 1
        lines = (folder / out / "memo" / "metrics.jsonl").read_text().splitlines()
        return [json.loads(line)["loss"] for line in lines]

    single = losses("single", steps=6)
    batches = losses("batches", steps=2, batch=3)
    assert batches == pytest.approx([sum(single[:3]) / 3, sum(single[3:]) / 3], rel=1e-14)


def test_documents_apart_give_other_bits_and_all_strategies_the_same(folder, job, disk, book):
    for name, part in ("a.txt", book[:5_000]), ("b.txt", book[5_000:]):
        (folder / name).write_bytes(part)
    memory = {"disk": disk, "disk_limit": "8MiB"}

    def run(documents):
        data = {"files": ["a.txt", "b.txt"], "documents": documents, "end_token": ord("\n")}
        rows = compare(job(data=data, train={"block": 128}, memory=memory), folder / documents, ALL)
        assert all(run["departures"] == 0 for run in summaries(rows))
        return digests(summaries(rows))

    joined, apart = run("joined"), run("apart")
    assert len(joined) == len(apart) == 1
    assert joined != apart


@pytest.mark.parametrize("seed", range(2))
def test_another_seed_gives_other_bits(folder, job, seed):
    """The digests of the other tests would be worth nothing otherwise."""
    first = memo("train", job(seed=seed), "--out", folder / "a", "--json").json()
    second = memo("train", job(seed=seed + 1), "--out", folder / "b", "--json").json()
    assert first["loss_digest"] != second["loss_digest"]
    assert first["grad_digest"] != second["grad_digest"]


# Large enough that pages and the heap count for little: tens of MiB.
LARGER = {"model": SMALL | {"layers": 3, "ffn": 256}, "train": {"context": 4000, "block": 512, "steps": 1}}


@pytest.fixture(scope="module")
def rows(tmp_path_factory, book, disk_of_session):
    """All strategies without a limit, measured once."""
    folder = tmp_path_factory.mktemp("larger")
    (folder / "book.txt").write_bytes(book)
    file = write_job(folder / "job.toml", **LARGER, memory={"disk": disk_of_session, "disk_limit": "256MiB"})
    return compare(file, folder / "out", ALL)


def test_the_measured_peak_is_the_predicted_one(rows):
    assert rows["resident"]["summary"]["device_peak_bytes"] > 30 << 20
    for run in summaries(rows):
        predicted, measured = run["device_peak_bytes_predicted"], run["device_peak_bytes"]
        assert 0.98 * predicted <= measured <= predicted, run["strategy"]
        assert run["departures"] == 0


def test_each_strategy_is_what_its_name_says(rows):
    runs = {name: row["summary"] for name, row in rows.items()}
    assert runs["resident"]["bytes_out"] == runs["recompute"]["bytes_out"] == 0
    assert runs["offload"]["bytes_out"] > 0 and runs["offload"]["bytes_in"] > 0
    assert runs["recompute"]["device_peak_bytes"] < 0.8 * runs["resident"]["device_peak_bytes"]
    assert runs["offload"]["device_peak_bytes"] <= runs["recompute"]["device_peak_bytes"]


def test_under_a_limit_below_residents_peak_memo_still_runs(folder, job, disk, rows):
    runs = {name: row["summary"] for name, row in rows.items()}
    high, low = (runs[name]["device_peak_bytes_predicted"] for name in ("resident", "offload"))
    for limit in high - 4096, (high + low) // 2, low + (high - low) // 8:
        file = job(
            **LARGER,
            memory={"disk": disk, "disk_limit": "256MiB", "device_limit": limit},
        )
        limited = compare(file, folder / str(limit), ["resident", "memo"])
        assert not limited["resident"]["ran"]
        assert str(high) in limited["resident"]["reason"]  # the smallest limit that works
        run = limited["memo"]["summary"]
        assert run["device_peak_bytes"] <= run["device_peak_bytes_predicted"] <= limit
        assert digests([run]) == digests(runs.values())
        assert run["departures"] == 0
