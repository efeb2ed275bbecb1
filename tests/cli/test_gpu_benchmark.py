"""benchmarks/gpu.py, which `make gpu` runs where a GPU is, on the emulated one: every part's rows are there, parts that are
done are not done again, and the report names all."""

import json
import subprocess
import sys

from conftest import COMMAND, ENVIRONMENT, REPOSITORY

EMULATED = COMMAND.parent / "tests" / "memo_emulated"


def bench(out, parts):
    script = REPOSITORY / "benchmarks" / "gpu.py"
    options = "--small", "--memo", EMULATED, "--device-limit", "64MiB", "--host-limit", "64MiB", "--name", "emulated GPU"
    command = [sys.executable, script, "--out", out, "--parts", parts, *options]
    ran = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300, env=ENVIRONMENT)
    assert ran.returncode == 0, ran.stderr
    return ran.stderr


def test_parts_are_run_once_and_reported(tmp_path):
    out = tmp_path / "gpu"
    assert bench(out, "copies,overlap").count("+ memo") == 4
    (tier,) = json.loads((out / "copies.json").read_text())["rows"]
    assert tier["name"] == "host" and tier["read_bytes_per_second"] > 0
    resident, memo = json.loads((out / "overlap.json").read_text())["rows"]
    assert resident["departures"] == memo["departures"] == 0 and resident["loss_digest"] == memo["loss_digest"]
    assert memo["bytes_in"] > 0 and memo["device_peak_bytes"] < resident["device_peak_bytes"]
    assert bench(out, "copies,overlap").count("+ memo") == 0
    report = (tmp_path / "gpu-emulated-GPU.md").read_text()
    assert "## copies" in report and "## overlap" in report
    assert (out / "trace.perfetto-trace").stat().st_size > 0
