"""What happens to runs that nobody watches: two in one folder, folders that cannot be written, closed pipes, narrow terminals."""

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import termios

import pytest
from conftest import COMMAND, ENVIRONMENT, after_step, memo, start

LONG = {"context": 1024, "steps": 200}


def test_two_runs_in_one_folder(folder, job):
    process = start("train", job(train=LONG), "--out", folder / "run")
    after_step(process, 1)
    before = (folder / "run" / "plan.json").read_bytes()
    for resume in [], ["--resume"]:
        line = memo("train", job(train=LONG), "--out", folder / "run", *resume).refusal(2)
        assert str(folder / "run") in line and "another memo writes there" in line
    assert (folder / "run" / "plan.json").read_bytes() == before
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    done = memo(
        "train", job(train={"context": 1024, "steps": 200}), "--out", folder / "run", "--resume", "--set", "train.steps=1"
    )
    assert "has done all" in done.refusal(2), "the lock went with its process"


@pytest.mark.parametrize("out", ["/proc/run", "/dev/null/run"])
def test_folders_that_cannot_be_made(job, out):
    line = memo("train", job(), "--out", out).refusal(5)
    assert out in line and "cannot create the folder" in line


def test_a_folder_that_cannot_be_written(folder, job):
    """Root may write everywhere, so it is a folder of the kernel's that takes no files."""
    line = memo("train", job(), "--out", "/proc/self").refusal(5)
    assert "/proc/self" in line and "cannot write" in line


def test_sigterm_saves_and_ends_with_130(folder, job):
    process = start("train", job(train=LONG), "--out", folder / "run")
    after_step(process, 1)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "go on with --resume" in err.splitlines()[-1]
    (saved,) = (folder / "run").glob("checkpoint-*")
    assert json.loads((saved / "state.json").read_text())["step"] == int(saved.name.split("-")[1])


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_output_to_a_closed_pipe(folder, job, stream):
    """The work goes on; only what would be read by nobody is lost."""
    read, write = os.pipe()
    os.close(read)
    run = subprocess.run([COMMAND, "train", job(), "--out", folder / "run"], **{stream: write}, env=ENVIRONMENT, timeout=60)
    os.close(write)
    assert run.returncode == 0
    assert json.loads((folder / "run" / "summary.json").read_text())["steps"] == 2
    assert (folder / "run" / "checkpoint-2").is_dir()


@pytest.mark.parametrize("columns", [20, 40, 200])
def test_a_line_of_progress_fits_the_terminal(folder, job, columns):
    """Else it would wrap, and each step would leave a line behind."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = subprocess.Popen(
        [COMMAND, "train", job(train={"steps": 3}), "--out", folder / "run"],
        stdout=subprocess.DEVNULL,
        stderr=theirs,
        env=ENVIRONMENT,
    )
    os.close(theirs)
    text = b""
    while True:
        try:
            text += os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
    os.close(ours)
    assert process.wait(timeout=60) == 0
    lines = [line for line in re.split(r"[\r\n]+", text.decode().replace("\x1b[K", "")) if "step " in line and "/3" in line]
    assert len(lines) == 3
    assert all(len(line) < columns for line in lines)
    assert all(line.startswith("[") for line in lines) == (columns == 200)
