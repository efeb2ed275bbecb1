"""A run that was stopped, politely or not, and resumed ends with the same bits as one that was left alone."""

import ctypes
import ctypes.util
import json
import random
import shutil
import signal
import struct
import time

import pytest
import tokenizer_styles
from conftest import SMALL, after_step, memo, slow, start, write_job

STEPS = 6
TRAIN = dict(context=1024, block=128, steps=STEPS, lr=1e-3, checkpoint_every=1)  # about a tenth of a second a step
MODEL = SMALL | {"layers": 3}
DIGESTS = "loss_digest", "grad_digest", "loss_first", "loss_last", "steps"


@pytest.fixture(scope="module", params=["float32", "bfloat16"])
def reference(request, tmp_path_factory, book, disk_of_session):
    """A job, and how it ends when left alone."""
    folder = tmp_path_factory.mktemp("alone")
    (folder / "book.txt").write_bytes(book)
    memory = {"disk": disk_of_session, "disk_limit": "32MiB"}
    file = write_job(folder / "job.toml", MODEL | {"dtype": request.param}, TRAIN, memory)
    return file, ending(memo("train", file, "--out", folder / "run", "--json").json())


def ending(summary):
    return {key: summary[key] for key in DIGESTS}


def files_of(run):
    return {path.relative_to(run): path.read_bytes() for path in run.rglob("*") if path.is_file()}


def check_metrics(run, steps=STEPS):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, steps + 1))


@pytest.mark.parametrize("before, after", [("memo", "memo"), ("resident", "offload")])
def test_interrupted_and_resumed(tmp_path, reference, before, after):
    """By another strategy, too: where tensors live changes no bit, so a run may go on with less memory."""
    job, alone = reference
    run = tmp_path / "run"
    process = start("train", job, "--out", run, "--strategy", before)
    after_step(process, 2)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    message = err.splitlines()[-1]
    assert message.startswith("memo: stopped after step ") and str(run) in message and "--resume" in message
    done = int(message.split("stopped after step ")[1].split(",")[0])
    assert 2 <= done < STEPS
    check_metrics(run, done)
    assert (run / f"checkpoint-{done}").is_dir()

    resumed = memo("train", job, "--out", run, "--strategy", after, "--resume", "--json")
    assert ending(resumed.json()) == alone
    assert f"step {done + 1}/{STEPS}" in resumed.err and f"step {done}/{STEPS}" not in resumed.err
    check_metrics(run)
    assert ending(json.loads((run / "summary.json").read_text())) == alone


@pytest.mark.parametrize("seed", [0, slow(1)])
def test_killed_at_random_moments_and_resumed(tmp_path, reference, seed):
    """Between steps, in a step, in a checkpoint, while profiling: four times, then left to end. What ends before its kill is
    begun anew."""
    job, alone = reference
    moments = random.Random(seed)
    run = tmp_path / "run"
    process = start("train", job, "--out", run)
    after_step(process, 1)
    kills = 0
    for _ in range(40):
        time.sleep(moments.uniform(0, 0.8))
        process.kill()
        process.communicate(timeout=60)
        assert process.returncode in (-signal.SIGKILL, 0, 2)  # 2: it had done all steps
        kills += process.returncode == -signal.SIGKILL
        if process.returncode != -signal.SIGKILL:
            shutil.rmtree(run)
        process = start("train", job, "--out", run, "--resume")
        if kills == 4:
            break
    process.communicate(timeout=60)
    assert kills == 4
    assert process.returncode in (0, 2)
    last = json.loads((run / f"checkpoint-{STEPS}" / "state.json").read_text())
    assert (last["losses"][0], last["losses"][-1]) == (alone["loss_first"], alone["loss_last"])
    check_metrics(run)
    if process.returncode == 0:
        assert ending(json.loads((run / "summary.json").read_text())) == alone
        assert not list(run.glob(".checkpoint-*"))  # what the kills left unfinished


def test_terminated_without_periodic_checkpoints(folder, job):
    """SIGTERM, as batch systems send it, saves the step although checkpoint_every is 0."""
    file = job(model=MODEL, train=TRAIN | {"checkpoint_every": 0})
    expected = ending(memo("train", file, "--out", folder / "alone", "--json").json())
    process = start("train", file, "--out", folder / "run")
    after_step(process, 1)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert len(list((folder / "run").glob("checkpoint-*"))) == 1
    assert ending(memo("train", file, "--out", folder / "run", "--resume", "--json").json()) == expected
    check_metrics(folder / "run")


class TestWithoutCheckpoints:
    """checkpoint_every = "never": for runs that are only measured."""

    NEVER = TRAIN | {"checkpoint_every": "never", "steps": 2}

    def test_nothing_is_saved_at_the_end(self, folder, job):
        file, run = job(model=MODEL, train=self.NEVER), folder / "run"
        told = memo("train", file, "--out", run, "--json").json()
        assert {path.name for path in run.iterdir()} == {"plan.json", "metrics.jsonl", "summary.json", "timeline.json"}
        saved = memo("train", file, "--out", folder / "saved", "--set", "train.checkpoint_every=0", "--json").json()
        assert ending(told) == ending(saved) and (folder / "saved" / "checkpoint-2").is_dir()

    def test_nothing_when_it_is_stopped(self, folder, job):
        file, run = job(model=MODEL, train=self.NEVER | {"steps": 1000}), folder / "run"
        process = start("train", file, "--out", run)
        after_step(process, 1)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 130
        assert "nothing is saved, as train.checkpoint_every asks" in err.splitlines()[-1]
        assert not list(run.glob("*checkpoint*"))

    def test_so_there_is_nothing_to_resume(self, folder, job):
        file = job(model=MODEL, train=self.NEVER)
        line = memo("train", file, "--out", folder / "run", "--resume").refusal(2)
        assert 'job.toml:' in line and 'checkpoint_every is "never"' in line and "leave out --resume" in line
        assert not (folder / "run").exists()


def test_no_digest_of_gradients_where_none_is_asked_for(folder, job):
    file = job(model=MODEL, train=TRAIN | {"steps": 1})
    whole = memo("train", file, "--out", folder / "whole", "--json").json()
    short = memo("train", file, "--out", folder / "short", "--no-gradient-digest", "--json").json()
    assert short["grad_digest"] == "" and short["loss_digest"] == whole["loss_digest"]


def test_a_second_interrupt_ends_at_once(folder, job):
    process = start("train", job(model=MODEL, train=TRAIN | {"context": 4096}), "--out", folder / "run")
    after_step(process, 1)
    process.send_signal(signal.SIGINT)
    while "once more to end at once" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopped after step" not in err


@pytest.fixture(scope="module")
def finished_once(tmp_path_factory, book):
    folder = tmp_path_factory.mktemp("finished")
    (folder / "book.txt").write_bytes(book)
    file = write_job(folder / "job.toml", train={"steps": 2, "checkpoint_every": 1})
    assert memo("train", file, "--out", folder / "run").code == 0
    return folder


class TestRefusals:
    """A run folder is never overwritten by accident."""

    @pytest.fixture
    def finished(self, tmp_path, finished_once):
        """Job, run folder, and what is in it."""
        shutil.copytree(finished_once, tmp_path, dirs_exist_ok=True)
        return tmp_path / "job.toml", tmp_path / "run", files_of(tmp_path / "run")

    def test_a_second_run_in_the_same_folder(self, finished):
        file, run, before = finished
        line = memo("train", file, "--out", run).refusal(2)
        assert str(run) in line and "--resume" in line
        assert files_of(run) == before

    def test_a_finished_run(self, finished):
        file, run, before = finished
        line = memo("train", file, "--out", run, "--resume").refusal(2)
        assert "2 steps" in line and "train.steps" in line
        assert files_of(run) == before

    def test_but_it_goes_on_to_more_steps(self, finished):
        file, run, _ = finished
        summary = memo("train", file, "--out", run, "--resume", "--set", "train.steps=4", "--json").json()
        assert summary["steps"] == 4
        check_metrics(run, 4)

    @pytest.mark.parametrize(
        "key, before, now",
        [
            ("seed", "1", "2"),
            ("model.family", '"llama"', '"qwen3"'),
            ("model.hidden", "64", "128"),
            ("model.heads", "4", "2"),
            ("model.kv_heads", "2", "4"),
            ("model.ffn", "128", "64"),
            ("model.layers", "2", "1"),
            ("model.vocab", "256", "300"),
            ("model.tied", "false", "true"),
            ("model.dtype", '"float32"', '"bfloat16"'),
            ("data.documents", '"joined"', '"apart"'),
            ("data.end_token", "not set", "10"),
            ("train.context", "300", "200"),
            ("train.batch", "1", "2"),
        ],
    )
    def test_another_job_is_told_by_its_key(self, finished, key, before, now):
        file, run, files = finished
        options = "--resume", "--set", "train.steps=4", "--set", f"{key}={now}"
        line = memo("train", file, "--out", run, *options).refusal(2)
        assert line.startswith(f"memo: {run}/checkpoint-2/state.json: the run is of another job: ")
        assert f"{key} was {before}, and is {now} (--set {key}={now})" in line
        assert "set it back, or name another run folder" in line
        assert files_of(run) == files

    def test_all_that_differ_are_named_with_their_lines(self, finished):
        file, run, _ = finished
        text = file.read_text().replace("[data]", '[data]\ndocuments = "apart"').replace("context = 300", "context = 200")
        file.write_text(text)
        places = {key: 1 + text[: text.index(f"{key} = ")].count("\n") for key in ("documents", "context")}
        line = memo("train", file, "--out", run, "--resume", "--set", "train.steps=4").refusal(2)
        assert f'data.documents was "joined", and is "apart" ({file}:{places["documents"]})' in line
        assert f"train.context was 300, and is 200 ({file}:{places['context']})" in line

    @pytest.mark.parametrize("at", [0, 10_000, 19_999])
    def test_other_data_under_the_same_name(self, finished, at):
        file, run, before = finished
        book = file.parent / "book.txt"
        data = bytearray(book.read_bytes())
        data[at] ^= 1
        book.write_bytes(data)
        line = memo("train", file, "--out", run, "--resume", "--set", "train.steps=4").refusal(2)
        assert line.count("20000 tokens of book.txt (checksum ") == 2 and "data.files was" in line
        assert files_of(run) == before

    def test_the_same_data_under_another_name(self, finished):
        file, run, _ = finished
        (file.parent / "book.txt").rename(file.parent / "moved.txt")
        options = "--set", "train.steps=3", "--set", 'data.files=["moved.txt"]'
        assert memo("train", file, "--out", run, "--resume", *options, "--json").json()["steps"] == 3

    def test_another_tokenizer(self, tmp_path, book):
        """Told where it makes other tokens; another file of the same tokens is none."""
        tokenizer = json.loads(tokenizer_styles.STYLES["gpt2"]().to_str())
        vocab = len(tokenizer["model"]["vocab"]) + len(tokenizer["added_tokens"])
        (tmp_path / "book.txt").write_bytes(book)
        (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer))
        data = {"files": ["book.txt"], "tokenizer": "tokenizer.json"}
        file = write_job(tmp_path / "job.toml", SMALL | {"vocab": vocab}, data=data)
        assert memo("train", file, "--out", tmp_path / "run").code == 0
        (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer, indent=1))
        go_on = "train", file, "--out", tmp_path / "run", "--resume", "--set"
        assert memo(*go_on, "train.steps=3").code == 0
        tokenizer["model"]["merges"] = tokenizer["model"]["merges"][:-50]
        (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer))
        line = memo(*go_on, "train.steps=4").refusal(2)
        assert "data.tokenizer was tokenizer.json (checksum " in line and "data.files was " in line

    def test_more_files(self, finished):
        file, run, before = finished
        options = "--set", "train.steps=4", "--set", 'data.files=["book.txt", "book.txt"]'
        line = memo("train", file, "--out", run, "--resume", *options).refusal(2)
        assert "data.files was 1 file(s), and is 2 file(s)" in line
        assert files_of(run) == before

    @pytest.mark.parametrize(
        "key, before, now",
        [
            ("train.lr", "0.0003", "0.001"),
            ("train.min_lr_ratio", "0.1", "0.5"),
            ("train.warmup_steps", "0", "1"),
            ("train.weight_decay", "0.1", "0.2"),
            ("train.clip", "1", "0.5"),
            ("train.beta1", "0.9", "0.8"),
            ("train.beta2", "0.95", "0.9"),
            ("train.eps", "1e-08", "1e-06"),
            ("train.not_finite", '"stop"', '"skip"'),
            ("train.block", "64", "128"),
            ("train.head_groups", "2", "1"),
            ("train.loss_tile", "8192", "32"),
        ],
    )
    def test_what_changes_the_course_is_told(self, finished, key, before, now):
        """The key, both values, and from which step on; what changes no number is not worth a line."""
        file, run, _ = finished
        quiet = "--set", "train.checkpoint_every=0", "--set", "memory.slots=3", "--strategy", "recompute"
        resumed = memo(
            "train", file, "--out", run, "--resume", "--set", "train.steps=3", "--set", f"{key}={now}", *quiet, "--json"
        )
        assert resumed.json()["steps"] == 3
        told = [line for line in resumed.err.splitlines() if " was " in line]
        (steps,) = [line for line in told if line.startswith("train.steps ")]
        (changed,) = [line for line in told if line != steps]
        assert steps.startswith("train.steps was 2 up to step 2, and is 3 from here on")
        assert changed.startswith(f"{key} was {before} up to step 2, and is {now} from here on")
        assert ("last bits" in changed) == (key in ("train.block", "train.head_groups", "train.loss_tile"))

    def test_sizes_that_the_job_leaves_to_memo_stay_those_of_the_run(self, tmp_path, book):
        (tmp_path / "book.txt").write_bytes(book)
        train = {"context": 300, "checkpoint_every": 1}
        first = write_job(tmp_path / "first.toml", SMALL, train | {"block": 48, "head_groups": 1, "loss_tile": 40})
        expected = memo("train", first, "--out", tmp_path / "run", "--json").json()
        shutil.rmtree(tmp_path / "run" / "checkpoint-2")
        then = write_job(tmp_path / "then.toml", SMALL, train | {"block": "auto"})
        resumed = memo("train", then, "--out", tmp_path / "run", "--resume", "--json")
        assert resumed.json()["steps"] == 2 and " was " not in resumed.err
        for digest in ("loss_digest", "grad_digest"):
            assert resumed.json()[digest] == expected[digest]
        profile = json.loads((tmp_path / "run" / "plan.json").read_text())["profile"]
        assert (profile["flow"]["block_tokens"], profile["flow"]["groups"], profile["loss_tile_tokens"]) == (48, 1, 40)

    def test_nothing_is_told_when_nothing_changed(self, finished):
        file, run, _ = finished
        shutil.rmtree(run / "checkpoint-2")
        resumed = memo("train", file, "--out", run, "--resume", "--json")
        assert resumed.json()["steps"] == 2 and " was " not in resumed.err

    @pytest.mark.parametrize("name", ["model.safetensors", "state.safetensors", "state.json", "manifest.json"])
    def test_a_flipped_bit_is_named_and_the_one_before_used(self, finished, name):
        file, run, before = finished
        damaged = run / "checkpoint-2" / name
        data = bytearray(damaged.read_bytes())
        data[-5] ^= 1
        damaged.write_bytes(data)
        resumed = memo("train", file, "--out", run, "--resume", "--json")
        assert resumed.json()["steps"] == 2
        assert f"checkpoint-2/{name}: " in resumed.err and "going on from checkpoint-1" in resumed.err
        assert files_of(run / "checkpoint-2") == {
            path.relative_to("checkpoint-2"): data for path, data in before.items() if path.parts[0] == "checkpoint-2"
        }, "step 2 again has the same bits"

    def test_the_last_ones_are_kept(self, finished):
        file, run, _ = finished
        steps = lambda: sorted(int(path.name.split("-")[1]) for path in run.glob("checkpoint-*"))
        for keep, more, left in (3, 4, [2, 3, 4]), (1, 6, [6]), (0, 9, [6, 7, 8, 9]):
            options = "--set", f"train.steps={more}", "--set", f"train.keep_checkpoints={keep}"
            assert memo("train", file, "--out", run, "--resume", *options).code == 0
            assert steps() == left

    def test_damaged_checkpoints(self, finished):
        """The older one serves when the newest is damaged; when all are, the line says so."""
        file, run, _ = finished
        weights = run / "checkpoint-2" / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-1])
        summary = memo("train", file, "--out", run, "--resume", "--json").json()
        assert summary["steps"] == 2
        check_metrics(run, 2)
        for step in 1, 2:
            (run / f"checkpoint-{step}" / "state.json").write_text("{")
        line = memo("train", file, "--out", run, "--resume", "--set", "train.steps=3").refusal(2)
        assert str(run) in line


def fnv1a(data):
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return f"{value:016x}"


def xxh3(data):
    library = ctypes.CDLL(ctypes.util.find_library("xxhash"))
    library.XXH3_64bits.restype = ctypes.c_uint64
    library.XXH3_64bits.argtypes = ctypes.c_char_p, ctypes.c_size_t
    return f"{library.XXH3_64bits(data, len(data)):016x}"


class TestOlderCheckpoints:
    """Those that keep one digest of the job in place of its keys."""

    @pytest.fixture
    def older(self, tmp_path, finished_once):
        shutil.copytree(finished_once, tmp_path, dirs_exist_ok=True)
        shutil.rmtree(tmp_path / "run" / "checkpoint-1")
        folder = tmp_path / "run" / "checkpoint-2"
        state = json.loads((folder / "state.json").read_text())
        del state["keys"], state["data"]
        tokens = (tmp_path / "book.txt").read_bytes()
        ends = [fnv1a(struct.pack("<300q", *part)) for part in (tokens[:300], tokens[-300:])]
        text = (folder / "config.json").read_text() + f"|0|1|300|{len(tokens)}|" + "|".join(ends)
        state["job_digest"] = fnv1a(text.encode())
        (folder / "state.json").write_text(json.dumps(state, separators=(",", ":"), sort_keys=True) + "\n")
        data = (folder / "state.json").read_bytes()
        manifest = json.loads((folder / "manifest.json").read_text())
        for file in manifest["files"]:
            if file["name"] == "state.json":
                file |= {"bytes": len(data), "xxh3": xxh3(data)}
        (folder / "manifest.json").write_text(json.dumps(manifest))
        return tmp_path / "job.toml", tmp_path / "run"

    def test_go_on_to_the_same_bits(self, older, finished_once, tmp_path):
        file, run = older
        more = "--resume", "--set", "train.steps=4", "--json"
        newer = shutil.copytree(finished_once / "run", tmp_path / "newer")
        expected = ending(memo("train", file, "--out", newer, *more).json())
        resumed = memo("train", file, "--out", run, *more)
        assert ending(resumed.json()) == expected and " was " not in resumed.err
        state = json.loads((run / "checkpoint-4" / "state.json").read_text())
        assert state["keys"]["train.batch"] == "1" and "job_digest" not in state

    @pytest.mark.parametrize(
        "change, named",
        [
            ("seed=2", "seed was 1, and is 2"),
            ("model.ffn=64", "model.ffn was 128, and is 64"),
            ("train.batch=2", "train.batch or the data differ"),
            ("train.context=200", "train.context was 300, and is 200"),
        ],
    )
    def test_are_refused_as_before(self, older, change, named):
        file, run = older
        line = memo("train", file, "--out", run, "--resume", "--set", "train.steps=4", "--set", change).refusal(2)
        assert f"{run}/checkpoint-2/state.json: the run is of another job: " in line and named in line
