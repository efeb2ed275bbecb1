"""The whole command through the CUDA backend on an emulated runtime (tests/cuda): streams that run late or at random
times, device memory that faults when the host touches it outside of a kernel, and kernels of the CPU, so that the bits
must be those of the CPU backend."""

import shutil
import subprocess

import pytest
from conftest import COMMAND, ENVIRONMENT, SMALL, Run, memo, write_job

EMULATED = COMMAND.parent / "tests" / "memo_emulated"
MODEL = SMALL | {"layers": 3}
TRAIN = {"context": 320, "block": 128, "steps": 3}


def on_gpu(pace, *arguments):
    command = [str(EMULATED), *map(str, arguments)]
    environment = dict(ENVIRONMENT, MEMO_EMULATED_PACE=pace)
    return Run(subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment))


def bits(summary):
    return summary["loss_digest"], summary["grad_digest"]


@pytest.fixture(scope="module")
def on_cpu(tmp_path_factory, book):
    """The run on the CPU backend, by its summary."""
    folder = tmp_path_factory.mktemp("cpu")
    (folder / "book.txt").write_bytes(book)
    file = write_job(folder / "job.toml", model=MODEL, train=TRAIN)
    return memo("train", file, "--out", folder / "out", "--json").json()


@pytest.mark.parametrize("pace", ["prompt", "late", "random"])
@pytest.mark.parametrize("tier", ["disk", "host", "paged"])
def test_a_run_has_the_bits_of_the_cpu(folder, job, disk, on_cpu, tier, pace):
    memory = {"device": "cuda", "disk": disk, "disk_limit": "8MiB"}
    strategy = "offload"
    if tier == "host":
        memory = {"device": "cuda", "host_limit": "16MiB"}
    if tier == "paged":  # of parameters too
        memory |= {"device_limit": "1500KiB", "disk_limit": "32MiB"}
        strategy = "memo"
    file = job(model=MODEL, train=TRAIN, memory=memory)
    run = on_gpu(pace, "train", file, "--out", folder / "out", "--strategy", strategy, "--check=every", "--json").json()
    assert bits(run) == bits(on_cpu)
    assert run["bytes_out"] > 0 and run["bytes_in"] > 0 and run["departures"] == 0
    assert run["device_peak_bytes"] == run["device_peak_bytes_predicted"]


@pytest.mark.parametrize(
    "guards", [{"encrypt": True}, {"encrypt": True, "checksums": "none"}, {"host_limit": "16MiB", "checksums": "all"}]
)
def test_what_guards_a_tier_changes_no_bit(folder, job, disk, on_cpu, guards):
    """Encryption and checksums work on the host, on what the GPU has filled, or is about to read."""
    tier = {} if "host_limit" in guards else {"disk": disk, "disk_limit": "8MiB"}
    file = job(model=MODEL, train=TRAIN, memory={"device": "cuda"} | tier | guards)
    run = on_gpu("random", "train", file, "--out", folder / "out", "--strategy", "offload", "--check=every", "--json").json()
    assert bits(run) == bits(on_cpu)
    assert run["bytes_out"] > 0 and run["bytes_in"] > 0 and run["departures"] == 0


def test_a_run_goes_on_from_a_checkpoint_of_the_cpu(folder, job):
    train = TRAIN | {"steps": 4}
    expected = memo("train", job(model=MODEL, train=train), "--out", folder / "whole", "--json").json()
    assert memo("train", job(model=MODEL, train=train | {"checkpoint_every": 2}), "--out", folder / "out").code == 0
    last = sorted((folder / "out").glob("checkpoint-*"))[-1]
    assert last.name == "checkpoint-4"
    shutil.rmtree(last)
    file = job(model=MODEL, train=train, memory={"device": "cuda"})
    run = on_gpu("late", "train", file, "--out", folder / "out", "--resume", "--json").json()
    assert bits(run) == bits(expected)


def test_a_build_without_cuda_says_so(folder, job):
    line = memo("train", job(memory={"device": "cuda"}), "--out", folder / "out").refusal(2)
    assert "no CUDA backend" in line


def test_a_host_tier_on_the_cpu_is_refused(folder, job):
    line = memo("train", job(memory={"host_limit": "1MiB"}), "--out", folder / "out").refusal(2)
    assert "tier for GPUs" in line
