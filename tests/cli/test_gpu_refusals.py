"""What a GPU cannot do, or does not do any more: one line that names it and says what to do, with its exit code."""

import pytest
from test_cuda import EMULATED, MODEL, TRAIN, bits, on_gpu

pytestmark = pytest.mark.skipif(not EMULATED.is_file(), reason="a build with a LibTorch for CUDA")

CUDA = {"device": "cuda"}


@pytest.mark.parametrize("head_dim", [320, 20])
@pytest.mark.parametrize("verb", ["train", "profile", "plan"])
def test_heads_that_no_kernel_has(folder, job, verb, head_dim):
    file = job(model=MODEL | {"head_dim": head_dim}, train=TRAIN, memory=CUDA)
    out = ["--out" if verb == "train" else "-o", folder / "out"]
    line = on_gpu("prompt", verb, file, *out).refusal(2)
    assert f"heads of {head_dim} values" in line and "multiples of 8 up to 256" in line and 'memory.device = "cpu"' in line
    assert not (folder / "out").exists()


def test_a_gpu_too_old(folder, job):
    run = on_gpu("prompt", "train", job(model=MODEL, train=TRAIN, memory=CUDA), "--out", folder / "out",
                 MEMO_EMULATED_CAPABILITY="75")
    line = run.refusal(2)
    assert "an emulated GPU: compute capability 7.5" in line and "8.0" in line and 'memory.device = "cpu"' in line


OLD_DRIVER = {"MEMO_EMULATED_FAIL": "cudaGetDeviceCount:35:0"}


def test_a_driver_too_old(folder, job):
    run = on_gpu("prompt", "train", job(model=MODEL, train=TRAIN, memory=CUDA), "--out", folder / "out", **OLD_DRIVER)
    line = run.refusal(5)
    assert "cudaErrorInsufficientDriver" in line and "install a newer one" in line


def test_auto_takes_the_cpu_where_the_gpu_refuses_and_says_why(folder, job):
    file = job(model=MODEL, train=TRAIN | {"steps": 1}, memory={"device": "auto"})
    run = on_gpu("prompt", "train", file, "--out", folder / "out", "--json", **OLD_DRIVER)
    assert run.json()["steps"] == 1
    (line,) = [line for line in run.err.splitlines() if 'memory.device = "auto"' in line]
    assert 'is not "cuda": ' in line and "cudaErrorInsufficientDriver" in line


def test_memory_that_another_process_holds(folder, job):
    run = on_gpu("prompt", "train", job(model=MODEL | {"layers": 12}, train=TRAIN, memory=CUDA), "--out", folder / "out",
                 MEMO_EMULATED_BYTES=str(1 << 30), MEMO_EMULATED_TAKEN=str((1 << 30) - (80 << 20)))
    assert "memory.device_limit" in run.refusal(3)
    (line,) = [line for line in run.err.splitlines() if line.startswith("memory.device_limit = 16.00 MiB: ")]
    assert "other processes and CUDA itself hold 944.00 MiB of its 1.00 GiB (nvidia-smi shows them)" in line


@pytest.mark.parametrize("memory, what", [({"host_limit": "16MiB"}, "host tier"),
                                          ({"disk_limit": "8MiB"}, "staging slots")])
def test_a_refused_registration(folder, job, disk, memory, what):
    memory = CUDA | memory | ({"disk": disk} if "disk_limit" in memory else {})
    run = on_gpu("prompt", "train", job(model=MODEL, train=TRAIN, memory=memory), "--out", folder / "out",
                 MEMO_EMULATED_LOCKABLE=str(1 << 20))
    line = run.refusal(5)
    assert what in line and "cannot register" in line and "limit of locked memory" in line
    assert "ulimit -l unlimited" in line and "host_limit" in line


def test_a_gpu_that_is_lost_in_the_middle_of_a_run(folder, job):
    """Later and later. What was saved stays, and the run goes on from it to the same bits."""
    train = TRAIN | {"steps": 6, "checkpoint_every": 2}
    file = job(model=MODEL, train=train, memory=CUDA | {"host_limit": "64MiB"})
    assert on_gpu("prompt", "plan", file, "--strategy", "offload", "-o", folder / "plan.json").code == 0
    arguments = ["train", file, "--plan", folder / "plan.json", "--json", "--out"]
    expected = on_gpu("prompt", *arguments, folder / "whole").json()
    saved = []
    for calls in 1500, 6000, 12_000, 24_000:
        out = folder / f"lost-{calls}"
        run = on_gpu("prompt", *arguments, out, MEMO_EMULATED_FAIL=f":214:{calls}")  # all calls fail from then on
        if run.code == 0:
            break
        line = run.refusal(5)
        assert "cudaErrorECCUncorrectable" in line and "the GPU is lost" in line and "Xid" in line and "--resume" in line
        saved.append((len(list(out.glob("checkpoint-*"))), out))
    assert saved[0][0] == 0 and 0 < saved[-1][0] < 3
    run = on_gpu("prompt", *arguments, saved[-1][1], "--resume")
    assert bits(run.json()) == bits(expected)
