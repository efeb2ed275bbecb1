"""The parts that run tests: the build and streams, every kernel of the GPU against the CPU's (under compute-sanitizer too, where
that is installed), and the plug-in's tests that are marked on_gpu."""

import re
import shutil
import sys

from memo_runs import ROOT

SANITIZER = "memcheck racecheck initcheck synccheck".split()


def gtest(call, program, before=(), *options):
    """The counts of a GoogleTest program, and its first failure."""
    if not program.exists():
        return {"error": f"{program.name} is not built"}
    code, out, err = call.run([*before, program, *options])
    count = lambda word: int((re.findall(rf"\[  {word}\s*\] (\d+) test", out) or ["0"])[0])
    row = {"tests": int((re.findall(r"Running (\d+) test", out) or ["0"])[0]), "passed": count("PASSED"),
           "skipped": count("SKIPPED")}
    if code == 0 and not row["passed"]:
        row["error"] = "all tests were skipped: " + ("; ".join(re.findall(r"Skipped\n(.+)", out)) or "no reason given")[:200]
    found = re.findall(r"(?m)^\[  FAILED  \] (\w\S*)", out)
    if code != 0:
        said = re.findall(r"(?m)^=+ (?:Error|ERROR)[^\n]*", out + err)
        row["error"] = (f"exit code {code}: " + "; ".join([*dict.fromkeys(found), *said][:5]))[:300]
        if not found and not said:
            row["error"] += (err.strip() or out.strip()).splitlines()[-1][:200]
    return row


def streams(call, runs):
    """The CUDA backend with NVIDIA's runtime, and the kernels' rows on the host."""
    call.row("streams", "test_cuda", lambda: gtest(call, runs.options.tests["cuda"]), 240)
    call.row("streams", "test_gpu", lambda: gtest(call, runs.options.tests["rows"]), 60)


def kernels(call, runs):
    program = runs.options.tests["kernels"]
    call.row("kernels", "kernels", lambda: gtest(call, program), 120)
    sanitizer = shutil.which("compute-sanitizer")
    if not sanitizer:
        call.row("kernels", "compute-sanitizer", lambda: {"left": "compute-sanitizer is not installed"},
                 again=lambda row: True)
        return
    for tool in SANITIZER:
        command = [sanitizer, "--tool", tool, "--error-exitcode", "9"]
        # Those of memo/kernels: LibTorch's and cuBLAS's read what they did not write, which is not Memo's fault.
        if tool == "initcheck":
            command += ["--kernel-name-exclude", "kernel_substring=2at6native"]
        call.row("kernels", tool, lambda: gtest(call, program, command), 240)


def plugin(call, runs):
    """The tests that are marked on_gpu, by their names."""
    def run():
        paths = [str(runs.options.package), str(ROOT / "tests/python"), call.environment.get("PYTHONPATH", "")]
        command = [sys.executable, *runs.options.python_first, "-m", "pytest", "-q", "-p", "no:cacheprovider",
                   ROOT / "tests/python/test_devices.py", ROOT / "tests/python/test_users_on_a_gpu.py", "--slow",
                   "-k", "on_a_gpu_are or on_a_gpu_is or stream_of_its_own or ranks_run_on_the_gpu"]
        code, out, err = call.run(command, {"PYTHONPATH": ":".join(filter(None, paths)), "MEMO_PACKAGE": paths[0]})
        row = {word: int(n) for n, word in re.findall(r"(\d+) (passed|failed|skipped|error)s?\b", out)}
        if code != 0:
            failed = re.findall(r"(?m)^(?:FAILED|ERROR) (\S+)", out)
            row["error"] = (f"exit code {code}: " + "; ".join(failed or [(err.strip() or out.strip())[-200:]]))[:300]
        return row

    call.row("plugin", "tests/python", run, 240)
