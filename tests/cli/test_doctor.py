"""memo doctor on the emulated GPU: what it measures is what the device is, and what is wrong with the device is a finding."""

import pytest
from conftest import slow
from test_cuda import EMULATED, on_gpu

pytestmark = pytest.mark.skipif(not EMULATED.is_file(), reason="a build with a LibTorch for CUDA")

GIB = 1 << 30


def doctor(disk, *options, **environment):
    return on_gpu("prompt", "doctor", "--disk", disk, *options, **environment)


def findings(machine):
    return [finding["what"] + "; " + finding["fix"] for finding in machine["findings"]]


def test_a_gpu_is_described_and_measured(disk):
    machine = doctor(disk, "--json", MEMO_EMULATED_BYTES=str(4 * GIB), MEMO_EMULATED_TAKEN=str(3 * GIB // 2),
                     MEMO_EMULATED_CAPABILITY="80", MEMO_EMULATED_DEVICES="2").json()
    gpu = machine["gpu"]
    assert gpu["supported"] and "error" not in gpu
    assert (gpu["name"], gpu["compute_capability"], gpu["visible"]) == ("an emulated GPU", "8.0", 2)
    assert gpu["driver"] == gpu["runtime"] and gpu["driver"].startswith("13.")
    assert gpu["total_bytes"] == 4 * GIB and 0 <= 5 * GIB // 2 - gpu["free_bytes"] <= 4096  # Memo has a word there for check mode
    assert gpu["device_limit_bytes"] == gpu["free_bytes"] - GIB // 4, "less a sixteenth"
    host = gpu["host_memory"]
    assert set(host["bytes_per_second"]) == {"write", "read", "write_with_read", "read_with_write"}
    assert set(host["bytes_per_second_with_compute"]) == {"write_with_read", "read_with_write"}
    rates = [*host["bytes_per_second"].values(), *host["bytes_per_second_with_compute"].values()]
    assert all(1e7 < rate < 1e12 for rate in rates)
    assert 1 <= host["compute_slowdown"] <= 2
    assert GIB // 4 <= host["registered_bytes"] <= 8 * GIB
    assert host["seconds_of_8_gib"] == pytest.approx(host["seconds"] * 8 * GIB / host["registered_bytes"])
    found = {kernel["name"]: kernel["found"] for kernel in gpu["kernels"]}
    assert found == {"Memo's own": True, "attention by flash2, heads of 64": True, "attention by flash2, heads of 128": True,
                     "attention by flash2, heads of 256": True, "attention by cudnn, heads of 64": True,
                     "attention by cudnn, heads of 128": True, "memory-efficient attention": True}
    assert any("1.50 GiB of the GPU's 4.00 GiB are taken" in finding for finding in findings(machine))


@pytest.mark.slow
def test_what_limits_a_gpu_is_said_in_words(disk):
    """The host is always smaller than this GPU."""
    run = doctor(disk, MEMO_EMULATED_BYTES=str(1 << 50))
    assert run.code == 0 and not run.err
    assert "GPU            an emulated GPU, compute capability 9.0, driver for CUDA 13." in run.out
    for row in ("\n  copies       to the host ", "\n  and products at once ", " for 8 GiB of host memory, from ",
                "\n  kernels      Memo's own: found\n"):
        assert row in run.out
    assert "less than the GPU's 1024.00 TiB: a host tier stays small. Fix: " in run.out
    assert "are taken, by other processes" not in run.out


@pytest.mark.slow
def test_a_refused_registration_is_a_finding(disk):
    machine = doctor(disk, "--json", MEMO_EMULATED_LOCKABLE=str(64 << 20)).json()
    assert machine["gpu"]["host_memory"] is None
    assert any("cannot register" in finding and "ulimit -l" in finding for finding in findings(machine))
    assert machine["gpu"]["kernels"], "the rest is measured"


@pytest.mark.parametrize("environment, what", [
    ({"MEMO_EMULATED_CAPABILITY": "75"}, "compute capability 7.5; flash attention in bfloat16 needs 8.0 or more"),
    slow({"MEMO_EMULATED_FAIL": "cudaGetDeviceCount:35:0"}, "no driver of NVIDIA, or one too old"),
    slow({"MEMO_EMULATED_DEVICES": "0"}, "CUDA_VISIBLE_DEVICES"),
])
def test_a_gpu_that_training_cannot_use_is_a_finding(disk, environment, what):
    machine = doctor(disk, "--json", **environment).json()
    assert what in machine["gpu"]["error"] and "name" not in machine["gpu"]
    assert any(what in finding and 'memory.device = "cpu"' in finding for finding in findings(machine))
