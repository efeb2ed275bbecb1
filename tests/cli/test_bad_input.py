"""Whatever a user gets wrong, or the machine lacks: an exit code and one line that says what, where, and what to do."""

import os
import re
import shutil
import subprocess
import sys

import pytest
from conftest import COMMAND, ENVIRONMENT, memo, write_job

EVERY_KIND_OF_VERB = ["profile"], ["plan"], ["train", "--out", "run"], ["compare", "--out", "run"]


@pytest.fixture(scope="module")
def profile(tmp_path_factory):
    """Of the usual job without a disk: planning then takes no time."""
    folder = tmp_path_factory.mktemp("profile")
    assert memo("profile", write_job(folder / "job.toml"), "-o", folder / "profile.json").code == 0
    return folder / "profile.json"


def refused(line, *parts):
    for part in parts:
        assert str(part) in line, line


class TestTheCommandLine:
    @pytest.mark.parametrize(
        "arguments, parts",
        [
            ([], ["name a verb", "train"]),
            (["trian", "job.toml"], ["unknown verb 'trian'", "'train'"]),
            (["train", "job.toml", "--otu", "run"], ["unknown option '--otu'", "'--out'"]),
            (["train", "job.toml"], ["--out", "memo train --help"]),
            (["train", "--out", "run"], ["job", "memo train --help"]),
            (["plan", "job.toml", "more"], ["'more'"]),
            (["train", "job.toml", "--out", "run", "--strategy", "residents"], ["'residents'", "'resident'"]),
            (["plan", "job.toml", "--strategy", "memory"], ["'memory'", "recompute"]),
            (["compare", "job.toml", "--out", "run", "--strategies", "memo,ofload"], ["'ofload'", "'offload'"]),
            (["check", "missing.json"], ["missing.json"]),
            (["plan", "job.toml", "--profile", "missing.json"], ["missing.json"]),
            (["train", "job.toml", "--out", "run", "--plan", "missing.json"], ["missing.json"]),
            (["pack", "missing.csv"], ["missing.csv"]),
            (["doctor", "--disk", "missing"], ["missing"]),
        ],
    )
    def test_is_not_understood(self, folder, job, arguments, parts):
        job()
        refused(memo(*arguments, cwd=folder).refusal(2), *parts)

    @pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["train", "--help"]])
    def test_asks_for_help(self, arguments):
        run = memo(*arguments)
        assert run.code == 0 and "memo" in run.out and run.err == ""

    @pytest.mark.parametrize(
        "assignment, parts",
        [
            ("train.stps=3", ["'train.stps'", "'train.steps'"]),
            ("train.steps=many", ["'train.steps'", "an integer"]),
            ("train.steps", ["key=value"]),
            ("train=3", ["train"]),
            ("memory.device_limit=12 bananas", ["'memory.device_limit'", "512MiB"]),
        ],
    )
    def test_sets_what_cannot_be(self, job, assignment, parts):
        refused(memo("plan", job(), "--set", assignment).refusal(2), "--set " + assignment, *parts)


class TestTheJob:
    @pytest.mark.parametrize("verb", EVERY_KIND_OF_VERB)
    def test_is_missing(self, tmp_path, verb):
        refused(memo(*verb, "nowhere.toml", cwd=tmp_path).refusal(2), "nowhere.toml")

    @pytest.mark.parametrize("verb", EVERY_KIND_OF_VERB)
    def test_is_not_toml(self, folder, verb):
        (folder / "job.toml").write_text("seed = 1\n[model\n")
        refused(memo(*verb, "job.toml", cwd=folder).refusal(2), "job.toml:2")

    @pytest.mark.parametrize(
        "old, new, parts",
        [
            ("block =", "blok =", [":14:", "'train.blok'", "'train.block'"]),
            ("hidden = 64", 'hidden = "64"', [":4:", "'model.hidden'", "an integer", '"64"']),
            ("hidden = 64", "hidden = 0", [":4:", "'model.hidden'"]),
            ("hidden = 64", "hidden = 63", ["63"]),
            ("heads = 4", "heads = 3", ["3"]),
            ("layers = 2\n", "", ["'model.layers'"]),
            ('family = "llama"', 'family = "lama"', ["lama", "llama"]),
            ("context = 300", "context = 2000000000000", ["context"]),
            ("hidden = 64", "hidden = 9000000000000000000", ["hidden"]),
            ("vocab = 256", "vocab = 64", ["book.txt", "vocab"]),
            ("book.txt", "other.txt", ["other.txt"]),
            ("[data]", '[model.path]\n[data]', ["model.path"]),
        ],
    )
    def test_cannot_be(self, folder, job, old, new, parts):
        file = job()
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new, 1))
        line = memo("train", file, "--out", folder / "run").refusal(2)
        refused(line, *parts)
        assert not (folder / "run" / "metrics.jsonl").exists()

    def test_has_empty_data(self, folder, job):
        (folder / "book.txt").write_bytes(b"")
        refused(memo("train", job(), "--out", folder / "run").refusal(2), "book.txt", "empty")

    def test_needs_one_more_token_than_the_context(self, folder, job):
        (folder / "book.txt").write_bytes(b"x" * 300)
        refused(memo("train", job(), "--out", folder / "run").refusal(2), "300", "301", "299")
        (folder / "book.txt").write_bytes(b"x" * 301)
        assert memo("train", job(), "--out", folder / "run").code == 0

    def test_names_a_folder_where_a_file_is(self, folder, job):
        (folder / "run").write_text("")
        refused(memo("train", job(), "--out", folder / "run").refusal(5), folder / "run")
        assert (folder / "run").read_text() == ""


class TestTheModelFolder:
    """A checkpoint taken as the model of another job, damaged."""

    @pytest.fixture
    def model(self, folder, job, profile):
        """job.toml trains it further."""
        assert memo("train", job(train={"steps": 1}), "--profile", profile, "--out", folder / "made").code == 0
        model = folder / "made" / "checkpoint-1"
        job(model={"path": model})
        return model

    def train(self, folder, profile):
        return memo("train", folder / "job.toml", "--profile", profile, "--out", folder / "run")

    def test_is_whole(self, folder, model, profile):
        assert self.train(folder, profile).code == 0

    def test_is_missing(self, folder, model, profile):
        shutil.rmtree(model)
        refused(self.train(folder, profile).refusal(2), model)

    @pytest.mark.parametrize("size", [0, 7, 100, -1])
    def test_has_truncated_weights(self, folder, model, profile, size):
        weights = model / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:size])
        refused(self.train(folder, profile).refusal(2), weights)

    def test_has_a_header_of_no_sense(self, folder, model, profile):
        weights = model / "model.safetensors"
        weights.write_bytes((1 << 62).to_bytes(8, "little") + weights.read_bytes()[8:])
        refused(self.train(folder, profile).refusal(2), weights)

    def test_lacks_a_shard(self, folder, model, profile):
        weight_map = '{"metadata": {}, "weight_map": {"model.embed_tokens.weight": "model-00001-of-00002.safetensors"}}'
        (model / "model.safetensors").unlink()
        (model / "model.safetensors.index.json").write_text(weight_map)
        refused(self.train(folder, profile).refusal(2), "model-00001-of-00002.safetensors")

    def test_has_weights_of_other_sizes(self, folder, model, profile):
        config = model / "config.json"
        config.write_text(config.read_text().replace('"intermediate_size": 128', '"intermediate_size": 96'))
        refused(memo("train", folder / "job.toml", "--out", folder / "run").refusal(2), "96", "128")

    def test_has_a_config_that_is_not_json(self, folder, model, profile):
        (model / "config.json").write_text("{")
        refused(self.train(folder, profile).refusal(2), model / "config.json")

    def test_is_of_an_unknown_family(self, folder, model, profile):
        config = model / "config.json"
        config.write_text(config.read_text().replace('"model_type": "llama"', '"model_type": "mamba"'))
        refused(self.train(folder, profile).refusal(2), "mamba")

    def test_has_weights_in_a_format_that_is_not_read(self, folder, model, profile):
        """They must not be replaced by random ones in silence."""
        (model / "state.safetensors").unlink()
        (model / "model.safetensors").rename(model / "pytorch_model.bin")
        refused(self.train(folder, profile).refusal(2), "pytorch_model.bin", "safetensors")


class TestTheDeviceLimit:
    @pytest.mark.parametrize("strategy", ["resident", "recompute", "memo"])
    def test_named_is_the_smallest_that_works(self, folder, job, profile, strategy):
        options = "--profile", profile, "--strategy", strategy

        def plan_within(limit):
            return memo("plan", job(memory={"device_limit": limit}), *options, "-o", folder / "plan.json")

        line = plan_within("64KiB").refusal(3)
        refused(line, strategy, "device_limit", "300")
        least = int(re.search(r"\((\d+) bytes\)", line)[1])
        assert plan_within(least).code == 0
        assert memo("check", folder / "plan.json").code == 0
        refused(plan_within(least - 1).refusal(3), least)
        file = job(memory={"device_limit": least})
        run = memo("train", file, "--plan", folder / "plan.json", "--out", folder / strategy, "--json").json()
        assert run["device_peak_bytes"] <= least
        file = job(memory={"device_limit": least - 1})
        refused(memo("train", file, *options, "--out", folder / "less").refusal(3), least)
        assert not (folder / "less" / "metrics.jsonl").exists()

    def test_holds_for_a_given_plan_too(self, folder, job, profile):
        """A plan made for more memory than the job may use."""
        plan = folder / "plan.json"
        assert memo("plan", job(), "--profile", profile, "-o", plan).code == 0
        limited = job(memory={"device_limit": "64KiB"})
        refused(memo("train", limited, "--plan", plan, "--out", folder / "run").refusal(2), "device_limit", "64.00 KiB")


class TestTheDisk:
    def train(self, folder, job, disk, strategy="offload", **memory):
        file = job(train={"block": 128}, memory={"disk": disk} | memory)
        return memo("train", file, "--strategy", strategy, "--out", folder / "run")

    def test_folder_does_not_exist(self, folder, job):
        refused(self.train(folder, job, "nowhere").refusal(2), folder / "nowhere", "memory.disk")

    def test_folder_is_a_file(self, folder, job):
        refused(self.train(folder, job, "book.txt").refusal(2), folder / "book.txt")

    def test_folder_cannot_be_written(self, folder, job):
        refused(self.train(folder, job, "/proc").refusal(2), "/proc", "disk")

    @pytest.mark.skipif(not os.path.ismount("/dev/shm"), reason="no file system in memory")
    def test_folder_is_in_memory(self, folder, job):
        refused(self.train(folder, job, "/dev/shm").refusal(2), "/dev/shm", "memory")

    def test_limit_is_more_than_is_free(self, folder, job, disk):
        refused(self.train(folder, job, disk, disk_limit="4000TiB").refusal(2), "disk_limit", disk, "free")

    @pytest.mark.parametrize("limit", [1, 4096, 5000, 20_000])
    def test_limit_is_less_than_the_plan_needs(self, folder, job, disk, limit):
        refused(self.train(folder, job, disk, disk_limit=limit).refusal(3), "disk", "limit")
        run = self.train(folder, job, disk, "memo", disk_limit=limit)  # does without
        assert run.code == 0, run.err

    @pytest.mark.parametrize("strategy", ["offload", "memo-alpha"])
    def test_is_not_given_but_needed(self, folder, job, strategy):
        line = memo("train", job(), "--strategy", strategy, "--out", folder / "run").refusal(2)
        refused(line, strategy, "memory.disk")


class TestAPlanFile:
    @pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"format": "memo-profile", "version": 1}', "\0\xff"])
    @pytest.mark.parametrize("verb", [["check"], ["train", "job.toml", "--out", "run", "--plan"]])
    def test_is_something_else(self, folder, job, verb, content):
        job()
        (folder / "plan.json").write_text(content, encoding="latin-1")
        refused(memo(*verb, "plan.json", cwd=folder).refusal(2), "plan.json")

    @pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 0.999])
    def test_is_truncated(self, folder, job, profile, part):
        plan = folder / "plan.json"
        assert memo("plan", job(), "--profile", profile, "-o", plan).code == 0
        text = plan.read_text().rstrip()
        plan.write_text(text[: int(part * (len(text) - 1))])
        refused(memo("check", plan).refusal(2), plan)
        refused(memo("train", job(), "--plan", plan, "--out", folder / "run").refusal(2), plan)

    def test_cannot_be_written(self, folder, job, profile):
        line = memo("plan", job(), "--profile", profile, "-o", folder / "no" / "plan.json").refusal(5)
        refused(line, folder / "no" / "plan.json")


class TestOutput:
    def run(self, stdout, *arguments):
        return subprocess.run([str(COMMAND), *map(str, arguments)], stdout=stdout, stderr=subprocess.PIPE, text=True,
                              env=ENVIRONMENT, timeout=60)  # fmt: skip

    @pytest.mark.parametrize("json", [[], ["--json"]])
    def test_to_a_reader_that_went_away(self, folder, job, profile, json):
        """memo plan ... | head -0: the work is done, and nobody is blamed."""
        reader, writer = os.pipe()
        os.close(reader)
        plan = folder / "plan.json"
        done = self.run(writer, "plan", job(), "--profile", profile, "-o", plan, *json)
        os.close(writer)
        assert (done.returncode, done.stderr) == (0, "")
        assert memo("check", plan).code == 0

    def test_to_a_full_disk(self, job, profile):
        with open("/dev/full", "w") as full:
            done = self.run(full, "plan", job(), "--profile", profile)
        assert done.returncode == 5
        assert done.stderr.startswith("memo: ") and done.stderr.count("\n") == 1


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 2 MiB: one checkpoint fits, a second does not."""
    mount = tmp_path / "small"
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(mount)]
    if not sys.platform.startswith("linux") or shutil.which("mount") is None:
        pytest.skip("no mount")
    if subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("may not mount")
    yield mount
    subprocess.run(["umount", str(mount)], check=True)


class TestAFullDisk:
    def test_at_a_checkpoint_leaves_the_one_before(self, folder, job, small_disk):
        run = small_disk / "run"
        file = job(train={"steps": 3, "checkpoint_every": 1})
        expected = memo("train", file, "--out", folder / "alone", "--json").json()
        refused(memo("train", file, "--out", run).refusal(5), run, "space")
        assert sorted(path.name for path in run.glob("checkpoint-*")) == ["checkpoint-1"]
        refused(memo("train", file, "--out", run, "--resume").refusal(5), run, "space")  # still full, still whole
        subprocess.run(["mount", "-o", "remount,size=20m", str(small_disk)], check=True)
        resumed = memo("train", file, "--out", run, "--resume", "--json").json()
        for key in "loss_digest", "grad_digest", "steps":
            assert resumed[key] == expected[key]
        assert not list(run.glob(".checkpoint-*"))

    def test_from_the_beginning(self, job, small_disk, folder):
        (small_disk / "other").write_bytes(bytes(2 << 20))
        refused(memo("train", job(), "--out", small_disk / "run").refusal(5), small_disk)
        (small_disk / "other").unlink()
        (small_disk / "other").write_bytes(bytes(2045 << 10))  # room for folders and the first files only
        refused(memo("train", job(), "--out", small_disk / "run").refusal(5), small_disk)

