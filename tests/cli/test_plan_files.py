"""profile.json and plan.json pass between verbs; a plan that does not hold, or is for another job, never runs."""

import csv
import json

import pytest
from conftest import REPOSITORY, SMALL, memo, write_job

TRAIN = {"context": 400, "block": 64, "steps": 2}
EXAMPLE = REPOSITORY / "tests" / "data" / "dsa" / "example.12.csv"
# What scripts may rely on.
SUMMARY_KEYS = """strategy context steps loss_first loss_last loss_digest grad_digest device_peak_bytes
    device_peak_bytes_predicted step_seconds step_seconds_predicted tokens_per_second stall_seconds bytes_out bytes_in
    process_peak_rss_bytes""".split()
PLAN_KEYS = """strategy context block device_peak_bytes device_lower_bound_bytes tier_bytes step_seconds
    step_lower_bound_seconds stall_seconds tokens_per_second bytes_out bytes_in placement_gap""".split()


@pytest.fixture(scope="module")
def made(tmp_path_factory, book, disk_of_session):
    """A folder with book.txt, job.toml, profile.json, and a plan.json that swaps, so that it has every kind of row."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "book.txt").write_bytes(book)
    memory = {"disk": disk_of_session, "disk_limit": "8MiB"}
    file, profile, plan = write_job(folder / "job.toml", train=TRAIN, memory=memory), "profile.json", "plan.json"
    run = memo("profile", file, "-o", folder / profile)
    assert run.code == 0 and run.out.startswith(f"{folder / profile}: "), run.err
    options = "--strategy", "offload", "-o", folder / plan
    assert memo("plan", file, "--profile", folder / profile, *options).code == 0
    return folder


@pytest.fixture
def file(made):
    return made / "job.toml"


@pytest.fixture
def profile(made):
    return made / "profile.json"


@pytest.fixture
def plan(made):
    return made / "plan.json"


def edited(plan, edit, folder):
    document = json.loads(plan.read_text())
    edit(document)
    path = folder / "edited.json"
    path.write_text(json.dumps(document))
    return path


def test_from_profile_to_plan_to_run(folder, file, profile, plan):
    check = memo("check", plan)
    assert check.code == 0 and check.out.startswith(f"{plan} holds: strategy offload")
    by_plan = memo("train", file, "--plan", plan, "--out", folder / "a", "--json").json()
    assert by_plan["strategy"] == "offload" and by_plan["departures"] == 0
    assert memo("check", folder / "a" / "plan.json").code == 0  # the run's own copy
    by_profile = memo("train", file, "--profile", profile, "--out", folder / "b", "--json").json()
    assert by_profile["loss_digest"] == by_plan["loss_digest"]


def test_a_plan_written_again_by_another_tool_runs(folder, file, plan):
    again = edited(plan, lambda document: None, folder)  # other white space, same values
    assert memo("check", again).code == 0
    assert memo("train", file, "--plan", again, "--out", folder / "run").code == 0


def test_one_json_object(folder, file, profile):
    plan = memo("plan", file, "--profile", profile, "--json").json()
    assert set(PLAN_KEYS) <= set(plan)
    assert plan["context"] == 400 and plan["block"] == 64
    assert plan["device_lower_bound_bytes"] <= plan["device_peak_bytes"]
    assert plan["step_lower_bound_seconds"] <= plan["step_seconds"]

    summary = memo("train", file, "--profile", profile, "--out", folder / "run", "--json").json()
    assert set(SUMMARY_KEYS) <= set(summary)
    assert summary == json.loads((folder / "run" / "summary.json").read_text())
    assert summary["device_peak_bytes_predicted"] == plan["device_peak_bytes"]

    rows = memo("compare", file, "--profile", profile, "--out", folder / "compare", "--json").json()["rows"]
    assert [row["strategy"] for row in rows] == ["resident", "recompute", "offload", "memo"]
    assert all(set(SUMMARY_KEYS) <= set(row["summary"]) for row in rows)


def test_the_plan_in_words_tells_the_bounds(file, profile):
    run = memo("plan", file, "--profile", profile)
    assert run.code == 0
    for word in "device peak", "at least", "disk tier", "step", "without recomputation and stalls", "tokens/s", "gap":
        assert word in run.out


EDITS = {
    "residency moved onto another": lambda d: edit_row(d, "residencies", "offset", lambda value: value + 4096),
    "residency outside the arena": lambda d: edit_row(d, "residencies", "offset", lambda value: 1 << 40),
    "copy after its use": lambda d: edit_row(d, "copies", "at", lambda value: value + 3),
    "arena too small": lambda d: d["program"].update(arena_bytes=d["program"]["arena_bytes"] // 2),
    "peak over the limit": lambda d: d.update(device_limit_bytes=d["program"]["arena_bytes"] - 1),
    "call left out": lambda d: drop_row(d, "calls"),
    "copy left out": lambda d: drop_row(d, "copies"),
}


def edit_row(document, name, column, change):
    table = document["program"][name]
    row, i = table["rows"][len(table["rows"]) // 2], table["columns"].index(column)
    row[i] = change(row[i])


def drop_row(document, name):
    rows = document["program"][name]["rows"]
    del rows[len(rows) // 2]


@pytest.mark.parametrize("edit", EDITS)
def test_an_edited_plan_is_refused(folder, file, plan, edit):
    broken = edited(plan, EDITS[edit], folder)
    run = memo("check", broken)
    assert str(broken) in run.refusal(2)
    machine = memo("check", broken, "--json")
    assert machine.code == 2
    if machine.out:  # the file could be read: what fails is listed
        assert json.loads(machine.out)["failures"] and not json.loads(machine.out)["valid"]
        assert run.out
    memo("train", file, "--plan", broken, "--out", folder / "run").refusal(2)
    assert not (folder / "run" / "metrics.jsonl").exists()


OTHER_JOBS = {
    "hidden": {"model": SMALL | {"hidden": 128}},
    "layers": {"model": SMALL | {"layers": 3}},
    "dtype": {"model": SMALL | {"dtype": "bfloat16"}},
    "vocab": {"model": SMALL | {"vocab": 300}},
    "heads of the same weights": {"model": SMALL | {"heads": 2, "kv_heads": 1}},
    "context": {"train": TRAIN | {"context": 500}},
    "shorter context": {"train": TRAIN | {"context": 300}},
    "block": {"train": TRAIN | {"block": 128}},
}


@pytest.mark.parametrize("change", OTHER_JOBS)
def test_a_plan_of_another_job_is_refused(folder, job, disk, plan, change):
    other = job(**({"train": TRAIN, "memory": {"disk": disk, "disk_limit": "8MiB"}} | OTHER_JOBS[change]))
    line = memo("train", other, "--plan", plan, "--out", folder / "run").refusal(2)
    assert f"{plan}: the plan is for another job" in line
    assert not (folder / "run" / "metrics.jsonl").exists()


@pytest.mark.parametrize("change", OTHER_JOBS)
def test_a_profile_of_another_job_is_refused(folder, job, disk, profile, change):
    other = job(**({"train": TRAIN, "memory": {"disk": disk, "disk_limit": "8MiB"}} | OTHER_JOBS[change]))
    for verb in ("plan",), ("train", "--out", folder / "run"), ("compare", "--out", folder / "run"):
        line = memo(verb[0], other, *verb[1:], "--profile", profile).refusal(2)
        assert f"{profile}: the profile is for another job" in line


def test_pack_of_the_example_is_optimal(folder):
    out = folder / "packed.csv"
    packing = memo("pack", EXAMPLE, "--json", "-o", out).json()
    assert (packing["status"], packing["peak"], packing["lower_bound"], packing["gap"]) == ("optimal", 12, 12, 0)
    columns = "lower", "upper", "size", "offset"
    buffers = [{key: int(row[key]) for key in columns} for row in csv.DictReader(out.open())]
    assert len(buffers) == packing["buffers"]
    assert max(b["offset"] + b["size"] for b in buffers) == 12
    for i, a in enumerate(buffers):
        for b in buffers[:i]:
            together = a["lower"] < b["upper"] and b["lower"] < a["upper"]
            assert not together or a["offset"] + a["size"] <= b["offset"] or b["offset"] + b["size"] <= a["offset"]
    assert memo("pack", EXAMPLE, "--capacity", "12", "--json").json()["peak"] <= 12
    assert "--capacity 12 is enough" in memo("pack", EXAMPLE, "--capacity", "11").refusal(3)


def test_doctor_is_one_object(disk):
    machine = memo("doctor", "--json", cwd=disk).json()
    assert {"cores", "memory", "locked_memory_bytes", "numa_nodes", "gpu", "disk", "findings"} <= set(machine)
    assert machine["cores"] >= 1 and machine["memory"]["copy_bytes_per_second"] > 0
    assert all(finding["what"] and finding["fix"] for finding in machine["findings"])
    for rates in "bytes_per_second", "bytes_per_second_with_compute":
        assert all(rate > 0 for rate in machine["disk"][rates].values())
        assert set(machine["disk"][rates]) == {"write", "read", "write_with_read", "read_with_write"}
