"""Runs the built command as a user does: one process, job files in a temporary folder, exit code and output checked.

MEMO_COMMAND names the command; build/memo of this repository when absent. Each process gets one thread: the jobs are tiny.
"""

import json
import os
import shutil
import signal
import struct
import subprocess
import tempfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
COMMAND = Path(os.environ.get("MEMO_COMMAND", REPOSITORY / "build" / "memo")).resolve()
ENVIRONMENT = dict(os.environ, OMP_NUM_THREADS="1")
SMALL = dict(family="llama", hidden=64, layers=2, heads=4, kv_heads=2, ffn=128, vocab=256)


def slow(*values):
    """A row of a parametrized test that is left to make test-all, since rows beside it go the same ways."""
    return pytest.param(*values, marks=pytest.mark.slow)


class Run:
    """What a process left behind."""

    def __init__(self, completed):
        self.code, self.out, self.err = completed.returncode, completed.stdout, completed.stderr

    def json(self):
        assert self.code == 0, self.err
        assert self.out.count("\n") == 1, f"one line on stdout, found: {self.out!r}"
        value = json.loads(self.out)
        assert isinstance(value, dict)
        return value

    def refusal(self, code):
        """The one line that says why; every line before it is progress."""
        assert self.code == code, f"exit code {self.code}, not {code}: {self.out}{self.err}"
        assert self.err.endswith("\n")
        *progress, line = self.err.splitlines()
        assert line.startswith("memo: ") and len(line) > len("memo: ")
        assert not [other for other in progress if other.startswith("memo:")], self.err
        for sign in ("Traceback", "terminate called", "what():", "Exception raised from", "invariant"):
            assert sign not in self.err
        return line


def memo(*arguments, **options):
    command = [str(COMMAND), *map(str, arguments)]
    options = dict(capture_output=True, text=True, timeout=120, env=ENVIRONMENT) | options
    return Run(subprocess.run(command, **options))


def start(*arguments):
    """A process to be interrupted. Its stderr is read line by line."""
    command = [str(COMMAND), *map(str, arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1, env=ENVIRONMENT,
        preexec_fn=as_in_a_terminal
    )


def as_in_a_terminal():
    """No signal is ignored, though these tests may run in the background or under nohup."""
    for ignored in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        signal.signal(ignored, signal.SIG_DFL)


def after_step(process, step):
    """Waits until stderr tells of the step."""
    for line in process.stderr:
        if line.startswith(f"step {step}/"):
            return
    raise AssertionError(f"step {step} did not come")


def model_of_one_step(folder):
    """folder/model, what one step of a small job in the folder left."""
    first = write_job(folder / "first.toml", train={"steps": 1})
    assert memo("train", first, "--out", folder / "first").code == 0
    return Path(shutil.copytree(folder / "first" / "checkpoint-1", folder / "model"))


def edit_tensor(file, tensor, edit):
    """edit(data, begin, end, shape) changes the bytes of a tensor of a safetensors file, [begin, end) of all data."""
    data = bytearray(file.read_bytes())
    (size,) = struct.unpack_from("<Q", data)
    about = json.loads(data[8 : 8 + size])[tensor]
    begin, end = (8 + size + offset for offset in about["data_offsets"])
    edit(data, begin, end, about["shape"])
    file.write_bytes(data)


def toml(value):
    return json.dumps(str(value) if isinstance(value, Path) else value)


def write_job(file, model=None, train=None, memory=None, data=None, seed=1):
    """job.toml of a tiny llama, or of the tables given."""
    tables = {
        "model": SMALL if model is None else model,
        "data": {"files": ["book.txt"]} if data is None else data,
        "train": {"context": 300, "block": 64, "steps": 2} | (train or {}),
        "memory": memory or {},
    }
    text = f"seed = {seed}\n"
    for name, table in tables.items():
        text += f"[{name}]\n" + "".join(f"{key} = {toml(value)}\n" for key, value in table.items())
    file.write_text(text)
    return file


@pytest.fixture(scope="session", autouse=True)
def command_is_built():
    assert COMMAND.is_file(), f"{COMMAND} is missing: make build, or set MEMO_COMMAND"


@pytest.fixture(scope="session")
def book():
    """Some text; its bytes are the tokens."""
    return (REPOSITORY / "examples" / "text" / "kjv.txt").read_bytes()[:20_000]


@pytest.fixture
def folder(tmp_path, book):
    """Where a job and its data lie."""
    (tmp_path / "book.txt").write_bytes(book)
    return tmp_path


@pytest.fixture
def job(folder):
    """job(model=.., train=.., memory=..) writes folder/job.toml."""
    return lambda **tables: write_job(folder / "job.toml", **tables)


@pytest.fixture(scope="session")
def disk_of_session():
    """A folder that is not in memory, as the disk tier asks."""
    path = Path(tempfile.mkdtemp(prefix="memo-test-", dir="/var/tmp"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def disk(disk_of_session):
    """The same, empty before the test and after it: a tier leaves no file."""
    assert list(disk_of_session.iterdir()) == []
    yield disk_of_session
    assert list(disk_of_session.iterdir()) == []
