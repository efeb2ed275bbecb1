"""What a run does against silent corruption and hangs: check mode, checksums, the watchdog."""

import json
import re
import resource
import subprocess

import pytest
from conftest import ENVIRONMENT, memo, slow, start

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


@pytest.mark.parametrize("dtype, batch", [("float32", 2), slow("bfloat16", 1), slow("float32", 1), slow("bfloat16", 2)])
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


HANGING = r"""  // A disk that stalls for ever when it is to sync files of a certain name, or that begin in a certain way.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <fcntl.h>
#include <unistd.h>
static void hang(int fd) {
  char link[64], name[4096] = {}, begin[64] = {};
  std::snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  if (readlink(link, name, sizeof name - 1) < 0) return;
  const int again = open(link, O_RDONLY);
  if (again >= 0 && read(again, begin, sizeof begin - 1) >= 0) close(again);
  const char* files = std::getenv("HANGING");
  if (std::strstr(name, files) || std::strncmp(begin, files, std::strlen(files)) == 0)
    for (;;) pause();
}
extern "C" int fsync(int fd) {
  hang(fd);
  return reinterpret_cast<int (*)(int)>(dlsym(RTLD_NEXT, "fsync"))(fd);
}
extern "C" int sync_file_range(int fd, off64_t, off64_t, unsigned) {
  hang(fd);
  return 0;
}
"""


@pytest.mark.parametrize(
    "files, what, whole",
    [
        ("checkpoint-2.partial/model", "the checkpoint of step 2 is being synced", set()),
        ("checkpoint-4.partial", "the checkpoint of step 4 is being synced", {"checkpoint-2"}),
        ('{"strategy":', "summary.json is being written", {"checkpoint-2", "checkpoint-4"}),
    ],
)
def test_a_disk_that_hangs_in_a_sync_ends_the_run_with_its_name(folder, job, files, what, whole):
    (folder / "hanging.cpp").write_text(HANGING)
    subprocess.run(["c++", "-shared", "-fPIC", "-o", folder / "hanging.so", folder / "hanging.cpp", "-ldl"], check=True)
    environment = ENVIRONMENT | {"LD_PRELOAD": str(folder / "hanging.so"), "HANGING": files}
    file = job(train={"steps": 4, "checkpoint_every": 2}, memory={"watchdog": 4})
    line = memo("train", file, "--out", folder / "out", env=environment).refusal(5)
    assert "nothing has moved for 4.00 s" in line and what in line and "go on with --resume" in line
    assert {path.name for path in (folder / "out").glob("checkpoint-*")} == whole


def test_after_a_failure_the_run_goes_on_from_its_checkpoint(folder, paged):
    whole = digests(memo("train", paged(train={"steps": 4}), "--out", folder / "whole", "--json"))
    out = folder / "out"
    assert memo("train", paged(train={"steps": 2}), "--out", out, "--json").code == 0
    file = paged(train={"steps": 4})
    memo("train", file, "--out", out, "--resume", "--faults", "1:0.05:flipped bit").refusal(5)
    assert json.loads((out / "checkpoint-2" / "state.json").read_text())["step"] == 2
    assert digests(memo("train", file, "--out", out, "--resume", "--json")) == whole


@pytest.mark.parametrize("kind", ["flipped bit", slow("I/O error"), slow("torn write"), slow("short read")])
def test_a_step_that_a_fault_spoilt_is_played_again(folder, paged, kind):
    """To the same bits: no parameter has changed when it fails before its updates."""
    file = paged(train={"steps": 3})
    clean = digests(memo("train", file, "--out", folder / "clean", "--json"))
    planned = "--plan", folder / "clean" / "plan.json"  # nothing is measured again
    for seed in range(8):
        out = folder / str(seed)
        run = memo("train", file, "--out", out, "--json", *planned, "--faults", f"{seed}:0.0002:{kind}")
        if run.code != 0:
            assert "disk tier" in run.refusal(5)
            continue
        assert digests(run) == clean
        if "the step is played again" in run.err:
            return
    raise AssertionError("no fault spoilt a step that could be played again")


def test_without_the_disk_a_run_goes_on_where_it_can(folder, job, disk):
    """A disk that always fails: nothing fits the limit with it any more, but without it something does."""
    tables = dict(model=DEEP, train=TRAIN | {"steps": 3})
    memory = {"disk": disk, "disk_limit": "64MiB"}
    file = job(**tables, memory=memory)
    clean = digests(memo("train", file, "--out", folder / "clean", "--json"))
    run = memo("train", file, "--out", folder / "run", "--strategy", "offload", "--json", "--faults", "1:1:I/O error")
    assert digests(run) == clean
    assert run.err.count("degraded") == 1 and "disk tier" in run.err
    plan = json.loads((folder / "run" / "plan.json").read_text())
    assert plan["program"]["tier_bytes"] == [], "what is in the folder is the plan that ran"


def test_a_disk_that_is_full_by_now_gives_a_smaller_plan(folder, job, disk):
    tables = dict(model=DEEP, train=TRAIN)
    file = job(**tables, memory={"disk": disk, "disk_limit": "64MiB"})
    made = folder / "plan.json"
    assert memo("plan", file, "--strategy", "offload", "-o", made).code == 0
    clean = digests(memo("train", file, "--out", folder / "clean", "--json"))
    plan = json.loads(made.read_text())  # made when the disk had a petabyte
    plan["program"]["tier_bytes"] = plan["program"]["tier_bytes"][:-1] + [1 << 50]
    plan["profile"]["tiers"][-1]["capacity_bytes"] = 1 << 50
    made.write_text(json.dumps(plan))
    assert memo("check", made).code == 0
    run = memo("train", file, "--plan", made, "--out", folder / "run", "--json")
    assert digests(run) == clean
    assert "cannot reserve 1024.00 TiB" in run.err and run.err.count("degraded") == 1


def test_a_checkpoint_that_cannot_be_written_does_not_end_the_run(folder, job):
    """Files may not grow for some steps, as where a quota is reached."""
    file = job(model=DEEP, train={"context": 1024, "steps": 6, "checkpoint_every": 1})
    clean = digests(memo("train", file, "--out", folder / "clean", "--json"))
    process = start("train", file, "--out", folder / "run")
    text = ""
    for line in process.stderr:
        text += line
        if line.startswith("step 1/"):
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
        if line.startswith("step 4/"):
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    process.communicate()
    assert process.returncode == 0, text
    assert "no checkpoint after step 2: " in text and "File too large" in text
    summary = json.loads((folder / "run" / "summary.json").read_text())
    assert (summary["loss_digest"], summary["grad_digest"]) == clean
    kept = {path.name for path in (folder / "run").glob("*checkpoint-*")}
    assert "checkpoint-6" in kept and not [name for name in kept if name.startswith(".")]
