"""Signals by which terminals and schedulers announce the end: what was done is saved, whatever sends them."""

import json
import os
import pty
import signal
import subprocess
import time

import pytest
from conftest import COMMAND, ENVIRONMENT, after_step, as_in_a_terminal, memo, start

LONG = {"context": 1024, "steps": 200}
SAVING = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU]


def saved_step(run):
    (saved,) = run.glob("checkpoint-*")
    return json.loads((saved / "state.json").read_text())["step"]


@pytest.mark.parametrize("sent", SAVING)
def test_saves_and_ends_with_130(folder, job, sent):
    process = start("train", job(train=LONG), "--out", folder / "run")
    after_step(process, 1)
    process.send_signal(sent)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    step = saved_step(folder / "run")
    assert f"stopped after step {step}, saved in {folder / 'run'}; go on with --resume" in err.splitlines()[-1]
    more = memo("train", job(train=LONG), "--out", folder / "run", "--resume", "--set", f"train.steps={step + 1}", "--json")
    assert more.json()["steps"] == step + 1


@pytest.mark.parametrize("first, second", [(signal.SIGINT, signal.SIGTERM), (signal.SIGUSR1,) * 2, (signal.SIGUSR2,) * 2])
def test_a_second_one_ends_at_once(folder, job, first, second):
    process = start("train", job(train=LONG | {"context": 8192}), "--out", folder / "run")
    after_step(process, 1)
    process.send_signal(first)
    while "once more to end at once" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(second)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopped after step" not in err


@pytest.mark.parametrize(
    "sent", [[signal.SIGHUP] * 3, [signal.SIGXCPU] * 3, [signal.SIGUSR1, signal.SIGTERM], [signal.SIGHUP, signal.SIGTERM]]
)
def test_what_is_sent_several_times_for_one_event_does_not_lose_the_save(folder, job, sent):
    """A shell and its terminal both send SIGHUP, the kernel repeats SIGXCPU; a scheduler warns before its SIGTERM."""
    process = start("train", job(train=LONG | {"context": 4096}), "--out", folder / "run")
    after_step(process, 1)
    for each in sent:
        process.send_signal(each)
        time.sleep(0.02)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert saved_step(folder / "run") >= 1


def test_a_terminal_that_closes(folder, job):
    """SIGHUP comes, and every word to the terminal fails from then on."""
    job(train=LONG)
    pid, terminal = pty.fork()
    if pid == 0:
        as_in_a_terminal()
        os.execve(COMMAND, [str(COMMAND), "train", str(folder / "job.toml"), "--out", str(folder / "run")], ENVIRONMENT)
    text = b""
    while b"step 1/" not in text:
        text += os.read(terminal, 65536)
    os.close(terminal)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 130
    assert saved_step(folder / "run") >= 1


@pytest.mark.parametrize("ignored", [signal.SIGHUP, signal.SIGUSR1])
def test_what_the_parent_ignores_stays_ignored(folder, job, ignored):
    """nohup memo train ..."""
    ignore = lambda: signal.signal(ignored, signal.SIG_IGN)
    command = [COMMAND, "train", job(train=LONG | {"steps": 8}), "--out", folder / "run"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT, preexec_fn=ignore)
    after_step(process, 1)
    process.send_signal(ignored)
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert json.loads((folder / "run" / "summary.json").read_text())["steps"] == 8


def test_a_pipe_without_a_reader_ends_nothing(folder, job):
    process = start("train", job(), "--out", folder / "run")
    after_step(process, 1)
    process.send_signal(signal.SIGPIPE)
    process.stderr.close()
    assert process.wait(timeout=60) == 0
    assert (folder / "run" / "checkpoint-2").is_dir()
