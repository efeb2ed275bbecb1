"""Nothing of the data is left behind: not on the disk of the tier, not in reports, and on request not in core dumps."""

import os
import resource
import signal
import subprocess
from pathlib import Path

import pytest
from conftest import COMMAND, ENVIRONMENT, SMALL, after_step, edit_tensor, memo, model_of_one_step, start, write_job

PLANTED = b"see=the=key=of=a"  # as float32: numbers of 0.06
STEPS = 400


@pytest.fixture
def planted(folder, disk):
    """planted(**memory) writes a job whose activations spell out a text: every embedding repeats it."""
    def plant(data, begin, end, shape):
        data[begin:end] = PLANTED * ((end - begin) // len(PLANTED))

    edit_tensor(model_of_one_step(folder) / "model.safetensors", "model.embed_tokens.weight", plant)
    train = {"steps": STEPS, "lr": 1e-12, "weight_decay": 0}

    def write(**memory):
        return write_job(folder / "job.toml", {"path": "model"}, train, {"disk": disk, "disk_limit": "64MiB"} | memory)

    return write


def tier_of(process, folder):
    """The bytes of the open file without a name that lies in the folder."""
    for link in Path(f"/proc/{process.pid}/fd").iterdir():
        target = os.readlink(link)
        if target.startswith(f"{folder}/"):
            assert target.endswith("(deleted)"), "it has no name"
            assert link.stat().st_mode & 0o777 == 0o600
            return link.read_bytes()
    raise AssertionError("no tier")


@pytest.mark.parametrize("encrypt", [False, True])
def test_the_tier_on_the_disk(folder, planted, disk, encrypt):
    """Read from the file itself while the run goes on. Killed, it leaves nothing in the folder."""
    process = start("train", planted(encrypt=encrypt), "--out", folder / "run", "--strategy", "offload")
    after_step(process, 2)
    process.send_signal(signal.SIGSTOP)
    raw = tier_of(process, disk)
    process.kill()
    process.communicate()
    assert len(raw) > 50_000
    assert (PLANTED * 4 in raw) == (not encrypt), "without encryption it is there, so that this test can fail"
    assert list(disk.iterdir()) == []


def test_encryption_changes_no_bit(folder, job, disk):
    tables = dict(model=SMALL, train={"steps": 3})
    runs = [
        memo(
            "train",
            job(**tables, memory={"disk": disk, "encrypt": on}),
            "--out",
            folder / str(on),
            "--strategy",
            "offload",
            "--json",
        ).json()
        for on in (False, True)
    ]
    assert runs[0]["bytes_in"] > 0
    assert [runs[0][key] for key in ("loss_digest", "grad_digest")] == [runs[1][key] for key in ("loss_digest", "grad_digest")]


@pytest.mark.parametrize("core_dumps", [True, False])
def test_core_dumps(folder, planted, core_dumps):
    if Path("/proc/sys/kernel/core_pattern").read_text().strip() != "core":
        pytest.skip("core dumps of this machine go elsewhere")
    if resource.getrlimit(resource.RLIMIT_CORE)[1] != resource.RLIM_INFINITY:
        pytest.skip("core dumps are limited")
    job = planted(core_dumps=core_dumps)
    cores = folder / "cores"
    cores.mkdir()
    process = subprocess.Popen(
        [COMMAND, "train", job, "--out", folder / "run", "--strategy", "offload"],
        cwd=cores,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY,) * 2),
    )
    after_step(process, 2)
    process.send_signal(signal.SIGABRT)
    process.communicate()
    (core,) = cores.iterdir()
    dumped = core.read_bytes()
    core.unlink()
    assert (PLANTED * 64 in dumped) == core_dumps  # vector registers hold 64 bytes at a time, a page 4096


def test_a_run_folder_holds_no_text(folder, job, book):
    """Neither plan, metrics, timeline, summary and checkpoints, nor a report of them."""
    assert memo("train", job(), "--out", folder / "run").code == 0
    assert memo("report", folder / "run", "-o", folder / "run" / "report.html").code == 0
    pieces = {book[i : i + 24] for i in range(0, len(book) - 24, 24)}
    files = [path for path in (folder / "run").rglob("*") if path.is_file()]
    assert len(files) > 8
    for path in files:
        data = path.read_bytes()
        found = {data[i : i + 24] for i in range(len(data) - 23)} & pieces
        assert not found, f"{path}: {found}"
