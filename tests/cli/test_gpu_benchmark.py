"""benchmarks/gpu, which `make gpu` runs where a GPU is, on the emulated one: rows are written as they come and never twice, a
call that was killed or has no time left is gone on with, nothing is left on the disk, and the tables name every part."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import COMMAND, ENVIRONMENT, REPOSITORY

EMULATED = COMMAND.parent / "tests" / "memo_emulated"
sys.path.insert(0, str(REPOSITORY / "benchmarks" / "gpu"))
import call as calls  # noqa: E402
import report  # noqa: E402

on_the_emulated_gpu = pytest.mark.skipif(not EMULATED.is_file(), reason="a build with a LibTorch for CUDA")
sys.path.pop(0)


def command(results, parts, *options):
    script = REPOSITORY / "benchmarks" / "gpu"
    options = "--emulated", "--memo", EMULATED, "--built", COMMAND.parent, "--name", "emulated GPU", *options
    return list(map(str, [sys.executable, script, "--results", results, "--parts", parts, *options]))


def bench(results, parts, *options, temporary, code=0):
    """Standard error of a call."""
    environment = ENVIRONMENT | {"TMPDIR": str(temporary)}
    ran = subprocess.run(command(results, parts, *options), capture_output=True, text=True, timeout=900, env=environment)
    assert ran.returncode == code, ran.stderr
    assert not list(temporary.iterdir()), "run folders are removed"
    return ran.stderr


@pytest.fixture
def temporary(tmp_path):
    folder = tmp_path / "temporary"
    folder.mkdir()
    return folder


def rows(results, part):
    return calls.read_rows(results / f"{part}.jsonl")


@on_the_emulated_gpu
def test_a_killed_call_is_gone_on_with(tmp_path, temporary):
    results = tmp_path / "results"
    first = subprocess.Popen(command(results, "kernels,8B"), stderr=subprocess.PIPE, text=True, start_new_session=True,
                             env=ENVIRONMENT | {"TMPDIR": str(temporary)})
    for line in first.stderr:
        if "8B: " in line:
            break
    time.sleep(0.3)
    first.kill()
    first.wait()
    assert len(rows(results, "kernels")) == 2 and not rows(results, "8B")
    assert list(temporary.iterdir()), "a killed call leaves its folder to the next"
    (results / "8B.jsonl").write_text('{"row": "8B 512", "torn')  # as a kill within a write would leave it
    told = bench(results, "kernels,8B", temporary=temporary)
    assert "kernels: kernels" not in told and told.count("8B:") == 1
    (run,) = rows(results, "8B")
    assert run["call"] == 2 and run["departures"] == 0 and run["device_peak_bytes_predicted"] > 0
    assert "grad_digest" not in run
    text = (results / "report.md").read_text()
    assert "# On a GPU: emulated GPU" in text and "## 8B" in text and "## kernels" in text and "step seconds predicted" in text


def call(results, **given):
    return calls.Call(results, **{"device": "d", "sources": "1", "minutes": 1} | given)


def test_a_row_is_begun_only_where_there_is_time_for_it(tmp_path):
    here = call(tmp_path)
    assert here.row("p", "a", lambda: {"x": 1}, 59)["x"] == 1
    assert here.row("p", "a", lambda: {"x": 2})["x"] == 1
    with pytest.raises(calls.CallIsOver, match="p, b: it may take 500 s"):
        here.row("p", "b", lambda: {"x": 1}, 500)
    assert call(tmp_path).row("p", "b", lambda: {"x": 3}, 500)["x"] == 3, "the first of a call is begun all the same"
    with pytest.raises(SystemExit, match="holds rows of d, this is e: name another folder"):
        call(tmp_path, device="e")


def test_a_command_ends_with_its_row_and_is_not_tried_again_with_the_same_sources(tmp_path):
    here = call(tmp_path)
    begin = time.monotonic()
    late = here.row("p", "sleeps", lambda: here.json_of(["sh", "-c", "sleep 60 & echo $! >&2; wait"]), 1)
    assert time.monotonic() - begin < 10 and late["error"].startswith("ended after 1 s: sh")
    again = call(tmp_path)
    assert again.row("p", "sleeps", lambda: {}) == late
    assert "error" not in call(tmp_path, sources="2").row("p", "sleeps", lambda: {"x": 1})


def test_what_goes_wrong_is_a_row(tmp_path):
    here = call(tmp_path)
    said = here.json_of(["sh", "-c", "echo memo: too large >&2; exit 3"])
    assert said == {"error": "does not fit: memo: too large"}
    assert here.json_of(["sh", "-c", "echo; echo oh >&2; exit 1"]) == {"error": "exit code 1: oh"}
    assert here.row("p", "a", lambda: {}["x"])["error"] == "KeyError: 'x'"


def test_a_command_ends_with_the_call(tmp_path):
    script = f"import sys; sys.path.insert(0, {str(Path(calls.__file__).parent)!r})\n" + (
        f"import call, pathlib\nhere = call.Call(pathlib.Path({str(tmp_path)!r}), 'd', '1', 1)\n"
        "here.row('p', 'a', lambda: here.json_of(['sh', '-c', 'echo $$ >pid; exec sleep 60']))")
    process = subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path, stderr=subprocess.DEVNULL)
    pid = tmp_path / "pid"
    while not (pid.exists() and pid.read_text().strip()):
        time.sleep(0.02)
        assert process.poll() is None
    process.kill()
    process.wait()
    child = Path("/proc") / pid.read_text().strip()
    for _ in range(100):
        if not child.exists() or "State:\tZ" in (child / "status").read_text():
            break
        time.sleep(0.05)
    else:
        os.kill(int(pid.read_text()), signal.SIGKILL)
        pytest.fail("the command goes on without the call")


@pytest.mark.skipif(shutil.which("nvidia-smi") is not None, reason="a GPU may be here")
def test_without_a_gpu_there_is_one_line(tmp_path):
    script, environment = REPOSITORY / "scripts" / "gpu", ENVIRONMENT | {"RESULTS": str(tmp_path)}
    ran = subprocess.run([script], capture_output=True, text=True, env=environment)
    assert (ran.returncode, ran.stderr) == (2, "make gpu: no GPU here: nvidia-smi is not installed\n")
    said = subprocess.run(command(tmp_path, "copies,bytes"), capture_output=True, text=True)
    assert said.returncode == 2 and said.stderr.splitlines()[-1].endswith("no part 'bytes'; parts are " + ", ".join(report.GOALS))


def test_the_page_of_documentation_says_what_ran(tmp_path):
    page = (REPOSITORY / "docs" / "gpu.md").read_text()
    assert page == report.NOTHING or page.startswith("# On a GPU: ") and "emulated" not in page
    assert report.text(tmp_path) == report.NOTHING
    row = {"row": "r", "device": "D", "call": 1, "sources": "1", "step_seconds": 1.1, "step_seconds_predicted": 1.0}
    (tmp_path / "8B.jsonl").write_text(json.dumps(row) + "\n")
    assert "| row | step seconds | step seconds predicted | step seconds apart |" in report.text(tmp_path)
    assert "| r | 1.1 | 1 | +10.0 % |" in report.text(tmp_path)


@pytest.mark.slow
@on_the_emulated_gpu
def test_every_part_runs_on_the_emulated_gpu(tmp_path, temporary):
    """The whole rehearsal, in calls of two minutes. What the emulated device lacks is a row with its reason."""
    results, code, number = tmp_path / "results", 4, 0
    while code == 4 and number < 8:
        environment = ENVIRONMENT | {"TMPDIR": str(temporary)}
        whole = command(results, "streams,kernels,plugin,attention,copies,bits,overlap,8B,longest,peers", "--minutes", 2)
        ran = subprocess.run(whole, capture_output=True, text=True, timeout=240, env=environment)
        code, number = ran.returncode, number + 1
        assert code in (0, 4), ran.stderr
    assert code == 0 and not list(temporary.iterdir())
    for part in ["streams", "kernels", "plugin", "attention", "copies", "bits", "overlap", "8B", "longest", "peers"]:
        assert [row for row in rows(results, part) if "error" in row] == [], part
    for part in ("streams", "kernels"):
        assert all(row["passed"] == row["tests"] for row in rows(results, part) if "tests" in row)
    by_name = {row["row"]: row for row in rows(results, "bits")}
    assert by_name["all"]["same_loss_digest"] and by_name["all"]["same_grad_digest"]
    assert all(by_name[name]["departures"] == 0 for name in ("resident", "memo", "memo-alpha", "odd length"))
    trained = [row for row in rows(results, "longest") if row["row"].endswith("trained")]
    assert len(trained) == 2
    beside = [row for row in rows(results, "peers") if "memo_to_peer" in row]
    assert {row["strategy"] for row in beside} == {"Transformers", "Transformers, offload", "TRL"}
    assert all(row["loss_apart"] < 1e-3 for row in beside)
