"""No verb deletes or overwrites what Memo did not write, or what a user may want: folders of runs and comparisons,
and files of -o."""

import json
import os
import shutil
import subprocess

import pytest
from conftest import COMMAND, memo, write_job
from test_resume import files_of


def put(path, text="mine"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory, book):
    """A job, its profile, its plan, and what two steps of it left."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "book.txt").write_bytes(book)
    job = write_job(folder / "job.toml", train={"checkpoint_every": 1})
    assert memo("profile", job, "-o", folder / "profile.json").code == 0
    assert memo("plan", job, "--profile", folder / "profile.json", "-o", folder / "plan.json").code == 0
    assert memo("train", job, "--profile", folder / "profile.json", "--out", folder / "run").code == 0
    return folder


@pytest.fixture
def here(made, tmp_path):
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return tmp_path


def train(here, run, *options):
    return memo("train", here / "job.toml", "--profile", here / "profile.json", "--out", run, *options)


class TestAComparison:
    @pytest.mark.parametrize("there", ["memo/notes.txt", "memo", "profile.json", "compare.json"])
    def test_is_refused_where_it_would_replace_something(self, here, there):
        out = here / "out"
        put(out / there)
        before = files_of(out)
        line = memo("compare", here / "job.toml", "--out", out, "--strategies", "resident,memo").refusal(2)
        assert f"{out}: holds '{there.split('/')[0]}' already" in line and "name another folder" in line
        assert files_of(out) == before

    def test_of_a_run_that_is_there(self, here):
        (here / "run").rename(here / "memo")
        before = files_of(here / "memo")
        os.rename(here / "profile.json", here / "p.json")
        line = memo("compare", here / "job.toml", "--profile", here / "p.json", "--out", here, "--strategies", "memo").refusal(2)
        assert "holds 'memo' already" in line
        assert files_of(here / "memo") == before

    def test_beside_other_files(self, here):
        put(here / "out" / "notes.txt")
        options = "--profile", here / "profile.json", "--strategies", "resident"
        assert memo("compare", here / "job.toml", "--out", here / "out", *options).code == 0
        assert (here / "out" / "notes.txt").read_text() == "mine"
        assert "compare.json" in os.listdir(here / "out")
        line = memo("compare", here / "job.toml", "--out", here / "out", *options).refusal(2)
        assert "already" in line, "nor is a comparison replaced by another"


class TestARun:
    @pytest.mark.parametrize("name", ["plan.json", "metrics.jsonl", "timeline.json", "summary.json"])
    @pytest.mark.parametrize("resume", [[], ["--resume"]])
    def test_does_not_replace_files_of_others(self, here, name, resume):
        file = put(here / "other" / name, '{"mine": 1}\n')
        line = train(here, here / "other", *resume).refusal(2)
        assert f"{file}: is there already" in line and "name another file, or remove it" in line
        assert list(files_of(here / "other").values()) == [b'{"mine": 1}\n']

    def test_does_not_begin_in_a_model(self, here):
        model = here / "run" / "checkpoint-2"
        before = files_of(model)
        assert "holds a model (config.json)" in train(here, model).refusal(2)
        assert files_of(model) == before

    def test_may_lie_beside_its_job(self, here):
        (here / "plan.json").unlink()
        assert memo("train", here / "job.toml", "--out", here).code == 0
        assert (here / "job.toml").exists() and (here / "checkpoint-2").is_dir()

    def test_keeps_checkpoints_of_others(self, here):
        run = here / "run"
        put(run / "checkpoint-0" / "trainer_state.json")
        put(run / "checkpoint-3" / "trainer_state.json")
        resumed = train(here, run, "--resume", "--set", "train.steps=4", "--set", "train.keep_checkpoints=1")
        assert resumed.code == 0, resumed.err
        assert sorted(path.name for path in run.glob("checkpoint-*")) == ["checkpoint-0", "checkpoint-3.aside-1", "checkpoint-4"]
        assert (run / "checkpoint-3.aside-1" / "trainer_state.json").read_text() == "mine"

    def test_steps_without_a_checkpoint_are_not_lost_unless_asked(self, here):
        """As a process leaves them that was killed before its first checkpoint."""
        run = here / "run"
        for path in run.iterdir():
            if path.name not in ("plan.json", "metrics.jsonl"):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        before = files_of(run)
        line = train(here, run).refusal(2)
        assert "without a checkpoint" in line and "--resume" in line
        assert files_of(run) == before
        again = train(here, run, "--resume")
        assert again.code == 0 and f"{run} holds no checkpoint: the run begins at its first step" in again.err

    def test_whose_checkpoints_are_gone_does_not_begin_anew(self, here):
        run = here / "run"
        for step in 1, 2:
            shutil.rmtree(run / f"checkpoint-{step}")
        before = files_of(run)
        for options in [], ["--set", "train.steps=4"]:
            line = train(here, run, "--resume", *options).refusal(2)
            assert str(run) in line and "its checkpoints are gone" in line
        assert "without a checkpoint" in train(here, run).refusal(2)
        assert files_of(run) == before

    def test_that_was_killed_and_whose_checkpoints_are_gone(self, here):
        run = here / "run"
        lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
        (run / "metrics.jsonl").write_text(lines[0] * 3)
        (run / "summary.json").unlink()
        for step in 1, 2:
            shutil.rmtree(run / f"checkpoint-{step}")
        assert "its checkpoints are gone" in train(here, run, "--resume").refusal(2)

    def test_says_when_there_is_nothing_to_go_on_from(self, here):
        started = train(here, here / "new", "--resume")
        assert started.code == 0 and "holds no checkpoint: the run begins at its first step" in started.err

    def test_all_damaged(self, here):
        for step in 1, 2:
            (here / "run" / f"checkpoint-{step}" / "state.json").unlink()
        before = files_of(here / "run")
        assert "no checkpoint is whole" in train(here, here / "run", "--resume", "--set", "train.steps=3").refusal(2)
        assert files_of(here / "run") == before


class TestFoldersThatCannotBe:
    def test_a_dangling_link(self, here):
        link = here / "link"
        link.symlink_to("nowhere")
        for out in link, link / "below":
            line = train(here, out).refusal(5)
            assert f"{link} is a symbolic link to nowhere, which is not there; make that folder" in line
        line = memo("compare", here / "job.toml", "--out", link).refusal(5)
        assert "which is not there" in line
        assert not (here / "nowhere").exists()

    def test_a_file(self, here):
        put(here / "file")
        for out in here / "file", here / "file" / "below":
            assert f"{here / 'file'} is there and is no folder" in train(here, out).refusal(5)

    def test_is_said_before_anything_is_measured(self, here):
        put(here / "file")
        refused = memo("train", here / "job.toml", "--out", here / "file")
        assert refused.refusal(5) and refused.err.count("\n") == 1

    @pytest.mark.parametrize("name", ["with space", "with\nnewline", "with 'quotes\"", "a/b/c", "link"])
    def test_others_can(self, here, name):
        (here / "there").mkdir()
        (here / "link").symlink_to("there")
        assert train(here, here / name).code == 0
        assert (here / name / "checkpoint-2").is_dir()
        line = train(here, here / name).refusal(2)
        assert "holds a run already (checkpoint-2)" in line
        resumed = train(here, here / name, "--resume", "--set", "train.steps=3")
        assert resumed.code == 0, resumed.err
        assert all(
            line.startswith(("step ", "train.", "check: ", "strategy ", " ")) for line in resumed.err.splitlines() if line
        ), resumed.err


NAMESPACES = subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode == 0


@pytest.mark.skipif(not NAMESPACES, reason="no namespaces for mounts")
def test_a_read_only_file_system(here):
    (here / "ro").mkdir()
    for out in here / "ro", here / "ro" / "new":
        script = "mount -t tmpfs -o ro tmpfs \"$1\" && shift && exec \"$@\""
        command = ["unshare", "-rm", "bash", "-c", script, "bash", here / "ro", COMMAND, "train", here / "job.toml", "--out", out]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert done.returncode == 5 and "Read-only file system" in done.stderr, done.stderr
        assert done.stderr.count("\n") == 1, "before anything is measured"


@pytest.mark.skipif(os.geteuid() == 0 and shutil.which("setpriv") is None, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written(here):
    (here / "theirs").mkdir(mode=0o555)
    plain = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    for out in here / "theirs", here / "theirs" / "new":
        done = subprocess.run([*plain, COMMAND, "train", here / "job.toml", "--out", out], capture_output=True, text=True)
        assert done.returncode == 5 and "Permission denied" in done.stderr, done.stderr
        assert done.stderr.count("\n") == 1, "before anything is measured"


class TestOutputFiles:
    """Each verb's -o: over a file of its own kind, and over nothing else."""

    SWEEP = "estimate --model llama-3-405b --hardware H100 --context 8192 --sweep --gpus 1".split()  # none fits, soon
    VERBS = {
        "profile": (["profile", "job.toml", "-o"], "a profile"),
        "plan": (["plan", "job.toml", "--profile", "profile.json", "-o"], "a plan"),
        "report": (["report", "plan.json", "-o"], "a report"),
        "perfetto": (["report", "plan.json", "-o", "page.html", "--perfetto"], "a trace"),
        "pack": (["pack", "in.csv", "--time-limit", "1", "-o"], "a table with offsets"),
        "rows": (["estimate", "--rows", "rows.csv", "-o"], "a table of estimates"),
        "sweep": ([*SWEEP, "-o"], "a sweep"),
        "plot": ([*SWEEP, "--plot"], "a sweep's page"),
    }  # fmt: skip

    @pytest.fixture
    def inputs(self, here):
        put(here / "in.csv", "id,lower,upper,size\na,0,2,8\nb,1,3,8\n")
        put(here / "rows.csv", "model,gpu,n_gpus,seq_len\ngpt-7b,A800,8,65536\n")
        return here

    @pytest.mark.parametrize("verb", VERBS)
    def test_over_something_else(self, inputs, verb):
        arguments, kind = self.VERBS[verb]
        for name in "job.toml", "book.txt", "in.csv", "rows.csv", "run/metrics.jsonl", "run/checkpoint-2/config.json":
            before = files_of(inputs)
            line = memo(*arguments, name, cwd=inputs).refusal(2)
            assert line.startswith(f"memo: {name}: is there already and is not {kind}"), line
            assert "name another file, or remove it" in line
            assert files_of(inputs) == before
        line = memo(*arguments, "run", cwd=inputs).refusal(2)
        assert line.startswith("memo: run: "), "a folder"

    @pytest.mark.parametrize("verb", VERBS)
    def test_over_its_own(self, inputs, verb):
        arguments, _ = self.VERBS[verb]
        for _ in range(2):
            run = memo(*arguments, "out", cwd=inputs)
            assert run.code == 0, run.err
        assert (inputs / "out").stat().st_size > 0
        others = [path.name for path in inputs.iterdir() if path.name.startswith(".")]
        assert others == [], "temporary files"

    def test_of_eval(self, here):
        put(here / "run" / "eval.json", "mine")
        options = "--data", here / "book.txt", "--context", "128", "--windows", "1"
        assert "is not an evaluation that memo wrote" in memo("eval", here / "run", *options).refusal(2)
        assert (here / "run" / "eval.json").read_text() == "mine"
        (here / "run" / "eval.json").unlink()
        for _ in range(2):
            assert memo("eval", here / "run", *options).code == 0
        assert json.loads((here / "run" / "eval.json").read_text())["windows"] == 1
