"""The whole command on a GPU that LibTorch believes in (tests/cuda/torch): its memory faults when the host touches it, its
streams run late or at random times, its operators allocate and wait as CUDA's do, and Memo's own code for GPUs runs on it.
Sums have other orders than on the CPU, so results are compared within a tolerance with the CPU's, and to the bit with each
other."""

import json
import random
import re
import shutil
import subprocess

import pytest
from conftest import COMMAND, ENVIRONMENT, SMALL, Run, memo, slow, write_job

EMULATED = COMMAND.parent / "tests" / "memo_emulated"
MODEL = SMALL | {"layers": 3, "ffn": 1024, "dtype": "bfloat16"}
TRAIN = {"context": 320, "block": 128, "steps": 3}

pytestmark = pytest.mark.skipif(not EMULATED.is_file(), reason="a build with a LibTorch for CUDA")


def on_gpu(pace, *arguments, **environment):
    command = [str(EMULATED), *map(str, arguments)]
    environment = dict(ENVIRONMENT, MEMO_EMULATED_PACE=pace, **environment)
    return Run(subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment))


def bits(summary):
    return summary["loss_digest"], summary["grad_digest"]


def check_peak(run, context=320):
    """The plan's memory, tokens, targets and positions of a sequence, and first rows of documents of a call."""
    assert 0 <= run["device_peak_bytes"] - run["device_peak_bytes_predicted"] <= 3 * 8 * context + 4 * 512


@pytest.fixture(scope="module")
def references(tmp_path_factory, book):
    """Runs on the CPU and, with all in its memory and no stream late, on the GPU."""
    folder = tmp_path_factory.mktemp("references")
    (folder / "book.txt").write_bytes(book)
    file = write_job(folder / "cpu.toml", model=MODEL, train=TRAIN)
    cpu = memo("train", file, "--out", folder / "cpu", "--json").json()
    file = write_job(folder / "gpu.toml", model=MODEL, train=TRAIN, memory={"device": "cuda"})
    gpu = on_gpu("prompt", "train", file, "--out", folder / "gpu", "--strategy", "resident", "--json").json()
    return cpu, gpu


def test_losses_are_those_of_the_cpu_within_a_tolerance(references):
    cpu, gpu = references
    assert gpu["departures"] == 0, gpu["first_departure"]
    for loss in ("loss_first", "loss_last"):
        assert abs(gpu[loss] - cpu[loss]) < 1e-3


@pytest.mark.parametrize("tier, pace", [("disk", "random"), ("host", "late"), ("paged", "random"), slow("disk", "prompt"),
                                        slow("disk", "late"), slow("host", "prompt"), slow("host", "random"),
                                        slow("paged", "prompt"), slow("paged", "late")])
def test_a_run_has_the_same_bits_on_every_tier_at_every_pace(folder, job, disk, references, tier, pace):
    memory = {"device": "cuda", "disk": disk, "disk_limit": "8MiB"}
    strategy = "offload"
    if tier == "host":
        memory = {"device": "cuda", "host_limit": "16MiB"}
    if tier == "paged":  # of parameters too
        memory |= {"device_limit": "14MiB", "disk_limit": "32MiB"}
        strategy = "memo"
    file = job(model=MODEL, train=TRAIN, memory=memory)
    run = on_gpu(pace, "train", file, "--out", folder / "out", "--strategy", strategy, "--check=every", "--json").json()
    assert bits(run) == bits(references[1])
    assert run["bytes_out"] > 0 and run["bytes_in"] > 0
    assert run["departures"] == 0, run["first_departure"]
    check_peak(run)


@pytest.mark.parametrize("batch, clip, pace", [(1, 1.0, "late"), (2, 0.0, "random"), slow(2, 1.0, "random"),
                                               slow(1, 0.0, "prompt")])
def test_layers_that_the_host_updates_have_the_same_bits(folder, job, batch, clip, pace):
    """Where the host is said to take no time for them, so that the plan has it update layers. A resumed run goes on alike."""
    train = TRAIN | {"batch": batch, "clip": clip, "steps": 4, "checkpoint_every": 2}
    file = job(model=MODEL, train=train, memory={"device": "cuda"})
    whole = on_gpu("prompt", "train", file, "--out", folder / "whole", "--strategy", "resident", "--json").json()

    memory = {"device": "cuda", "host_limit": "64MiB", "device_limit": "14MiB"}
    file = job(model=MODEL, train=train, memory=memory)
    assert on_gpu("prompt", "profile", file, "-o", folder / "profile.json").code == 0
    profile = json.loads((folder / "profile.json").read_text())
    on_host = [trace for trace in profile["traces"] if trace["segment"].startswith("host_update.")]
    assert len(on_host) == 2 and all(trace["seconds"] > 0 for trace in on_host)
    for trace in on_host:
        trace["seconds"] = 0
    (folder / "profile.json").write_text(json.dumps(profile))
    said = on_gpu("prompt", "plan", file, "--profile", folder / "profile.json", "-o", folder / "plan.json")
    assert re.search(r"host updates +[1-3] of 3 layers", said.out)

    run = on_gpu(pace, "train", file, "--plan", folder / "plan.json", "--out", folder / "out", "--check=every", "--json").json()
    assert bits(run) == bits(whole)
    assert run["departures"] == 0, run["first_departure"]
    shutil.rmtree(folder / "out" / "checkpoint-4")
    run = on_gpu(pace, "train", file, "--plan", folder / "plan.json", "--out", folder / "out", "--resume", "--json").json()
    assert bits(run) == bits(whole)


@pytest.mark.parametrize(
    "guards", [{"encrypt": True}, {"encrypt": True, "checksums": "none"}, {"host_limit": "16MiB", "checksums": "all"}]
)
def test_what_guards_a_tier_changes_no_bit(folder, job, disk, references, guards):
    """Encryption and checksums work on the host, on what the GPU has filled, or is about to read."""
    tier = {} if "host_limit" in guards else {"disk": disk, "disk_limit": "8MiB"}
    file = job(model=MODEL, train=TRAIN, memory={"device": "cuda"} | tier | guards)
    run = on_gpu("random", "train", file, "--out", folder / "out", "--strategy", "offload", "--check=every", "--json").json()
    assert bits(run) == bits(references[1])
    assert run["bytes_out"] > 0 and run["bytes_in"] > 0 and run["departures"] == 0


def test_a_run_goes_on_from_a_checkpoint(folder, job):
    train = TRAIN | {"steps": 4}
    memory = {"device": "cuda"}
    expected = on_gpu("prompt", "train", job(model=MODEL, train=train, memory=memory), "--out", folder / "whole", "--json").json()
    file = job(model=MODEL, train=train | {"checkpoint_every": 2}, memory=memory)
    assert on_gpu("late", "train", file, "--out", folder / "out").code == 0
    last = sorted((folder / "out").glob("checkpoint-*"))[-1]
    assert last.name == "checkpoint-4"
    shutil.rmtree(last)
    run = on_gpu("late", "train", job(model=MODEL, train=train, memory=memory), "--out", folder / "out", "--resume", "--json")
    assert bits(run.json()) == bits(expected)


def test_a_run_takes_the_kernel_of_attention_that_is_named_and_keeps_it(folder, job, references):
    """cuDNN's: it adds gradients in any order, so a short context takes it by name only."""
    memory = {"device": "cuda", "host_limit": "16MiB"}
    train = TRAIN | {"attention": "cudnn", "checkpoint_every": 2}
    run = on_gpu("late", "train", job(model=MODEL, train=train, memory=memory), "--out", folder / "out", "--strategy", "offload",
                 "--check=every", "--json").json()
    assert run["departures"] == 0, run["first_departure"]
    for loss in ("loss_first", "loss_last"):
        assert abs(run[loss] - references[0][loss]) < 1e-3
    profile = json.loads((folder / "out" / "plan.json").read_text())["profile"]
    assert profile["attention"] == "cudnn" and {row["kernel"] for row in profile["attention_measured"]} == {"cudnn"}
    train = TRAIN | {"steps": 4}
    run = on_gpu("late", "train", job(model=MODEL, train=train, memory=memory), "--out", folder / "out", "--resume")
    assert run.code == 0 and "train.attention" not in run.err
    assert json.loads((folder / "out" / "plan.json").read_text())["profile"]["attention"] == "cudnn"
    run = on_gpu("late", "train", job(model=MODEL, train=train | {"steps": 5, "attention": "flash2"}, memory=memory), "--out",
                 folder / "out", "--resume")
    assert 'train.attention was "cudnn" up to step 4, and is "flash2" from here on' in run.err


def test_kernels_of_attention_that_do_not_fit_the_job_are_refused_by_name(job):
    for name, why in (("flash3", "there is no kernel of attention 'flash3', but flash2, cudnn"),
                      ("cudnn", "cudnn has no attention for several documents in a sequence")):
        data = {"files": ["book.txt"], "documents": "apart", "end_token": 10}
        file = job(model=MODEL, train=TRAIN | {"attention": name}, data=data, memory={"device": "cuda"})
        assert why in on_gpu("prompt", "plan", file, "-o", "plan.json").refusal(2)


def drawn(number):
    """A job's tables, drawn at random: 1 to 40 heads, lengths that are no multiple of anything, batches, documents."""
    draw = random.Random(number)
    groups = draw.randint(1, 8)  # heads of a key head
    kv_heads = draw.randint(1, 40 // groups)
    heads = groups * kv_heads
    divisors = [n for n in range(1, kv_heads + 1) if kv_heads % n == 0]
    model = dict(family="llama", hidden=heads * draw.choice([8, 16]), layers=draw.randint(1, 3), heads=heads,
                 kv_heads=kv_heads, ffn=8 * draw.randint(1, 20), vocab=256, dtype="bfloat16")
    train = dict(context=draw.randint(1, 20) * draw.randint(10, 60) + 1, block=128 * draw.randint(1, 4), steps=2,
                 batch=draw.randint(1, 2), head_groups=draw.choice(divisors))
    apart = {"documents": "apart", "end_token": 10} if draw.random() < 0.5 else {}
    return dict(model=model, train=train, data={"files": ["book.txt"]} | apart)


@pytest.mark.parametrize("number", [0, *map(slow, range(1, 30))])
def test_calls_ask_for_what_was_recorded_at_every_shape(folder, job, number):
    """And the loss is the CPU's within a tolerance."""
    tables = drawn(number)
    book = (folder / "book.txt").read_bytes() * 2
    (folder / "book.txt").write_bytes(book)
    cpu = memo("train", job(**tables), "--out", folder / "cpu", "--json").json()
    file = job(**tables, memory={"device": "cuda"})
    gpu = on_gpu("random", "train", file, "--out", folder / "gpu", "--json").json()
    assert gpu["departures"] == 0, gpu["first_departure"]
    assert abs(gpu["loss_first"] - cpu["loss_first"]) < 2e-3 and abs(gpu["loss_last"] - cpu["loss_last"]) < 5e-3


@pytest.mark.parametrize("length", [1, 9, 100])
def test_packed_documents_are_apart(folder, job, length):
    """Documents of a few tokens are more than a plan has memory for: their attention goes in parts, beside the plan."""
    rows = folder / "book.txt"
    rows.write_bytes(b"\n".join(bytes([97 + i % 26]) * length for i in range(4000 // length + 400)))
    data = {"files": ["book.txt"], "documents": "apart", "end_token": 10}
    train = {"context": 700, "block": 256, "steps": 2}
    cpu = memo("train", job(model=MODEL, train=train, data=data), "--out", folder / "cpu", "--json").json()
    file = job(model=MODEL, train=train, data=data, memory={"device": "cuda"})
    gpu = on_gpu("late", "train", file, "--out", folder / "gpu", "--json").json()
    assert gpu["departures"] == 0, gpu["first_departure"]
    assert abs(gpu["loss_last"] - cpu["loss_last"]) < 2e-3


def test_operators_make_the_host_wait_only_at_the_end_of_a_step(folder, job):
    """There it reads the loss, the norm, and whether the step was refused, all at once."""

    memory = {"device": "cuda", "host_limit": "64MiB"}
    plan = ["--strategy", "offload", "-o", folder / "plan.json"]
    assert on_gpu("prompt", "plan", job(model=MODEL, train=TRAIN, memory=memory), *plan).code == 0

    def waits(steps):
        file = job(model=MODEL, train=TRAIN | {"steps": steps}, memory=memory)
        arguments = ["--out", folder / f"out{steps}", "--plan", folder / "plan.json", "--check=off"]
        assert on_gpu("late", "train", file, *arguments, MEMO_EMULATED_WAITS=str(folder / "waits")).code == 0
        lines = (line.split(" ", 1) for line in (folder / "waits").read_text().splitlines())
        return {what: int(count) for count, what in lines if what.startswith("aten::")}

    few, many = waits(2), waits(6)
    assert {what: many[what] - few.get(what, 0) for what in many if many[what] != few.get(what, 0)} == {
        "aten::copy_ to the host: cudaStreamSynchronize": 4
    }


def test_check_mode_makes_the_host_wait_a_few_times_a_step(folder, job):
    """Before each update, and at the ends of forward and of the step; not for each of the operands of 10 blocks."""
    train = TRAIN | {"context": 1280, "steps": 1}
    file = job(model=MODEL, train=train, memory={"device": "cuda", "host_limit": "64MiB"})
    assert on_gpu("prompt", "plan", file, "--strategy", "offload", "-o", folder / "plan.json").code == 0
    arguments = ["--out", folder / "out", "--plan", folder / "plan.json", "--check"]
    assert on_gpu("late", "train", file, *arguments, MEMO_EMULATED_WAITS=str(folder / "waits")).code == 0
    waits = dict(line.split(" ", 1)[::-1] for line in (folder / "waits").read_text().splitlines())
    assert 0 < int(waits["cudaStreamSynchronize"]) <= 2 * MODEL["layers"] + 8


def sizes_of(profile):
    return profile["flow"]["block_tokens"], profile["flow"]["groups"], profile["loss_tile_tokens"]


def sizes(folder):
    return sizes_of(json.loads((folder / "plan.json").read_text())["profile"])


@pytest.mark.slow  # seconds, of 16 000 tokens in blocks of each size
def test_blocks_are_measured_and_the_loss_has_tiles_of_a_block(folder, job):
    """Where a quarter of the context leaves a choice."""
    tiny = MODEL | dict(layers=1, hidden=16, heads=2, kv_heads=2, ffn=16)
    file = job(model=tiny, train={"context": 8192, "block": "auto", "steps": 1}, memory={"device": "cuda"})
    assert on_gpu("prompt", "profile", file, "-o", folder / "profile.json").code == 0
    profile = json.loads((folder / "profile.json").read_text())
    times = {row["block_tokens"]: row["seconds_per_token"] for row in profile["blocks_measured"]}
    assert list(times) == [1024, 2048]
    best = 1024 if times[1024] <= 1.03 * times[2048] else 2048
    assert sizes_of(profile) == (best, 1, best)


def test_a_run_on_a_gpu_keeps_its_sizes(folder, job):
    train = TRAIN | {"head_groups": 2, "loss_tile": 48, "steps": 1}
    memory = {"device": "cuda"}
    assert on_gpu("late", "train", job(model=MODEL, train=train, memory=memory), "--out", folder / "out").code == 0
    assert sizes(folder / "out") == (128, 2, 48)
    file = job(model=MODEL, train={"context": 320, "block": "auto", "steps": 2}, memory=memory)
    run = on_gpu("late", "train", file, "--out", folder / "out", "--resume", "--json")
    assert run.json()["departures"] == 0 and "from here on: sums" not in run.err
    assert sizes(folder / "out") == (128, 2, 48)


@pytest.mark.slow  # three profiles
def test_smaller_blocks_are_tried_where_memory_is_short(folder, job):
    """The limit is the least that blocks of 128 need; by itself a GPU would take blocks of 256."""
    model = MODEL | dict(layers=1, hidden=16, heads=2, kv_heads=2, ffn=12288)
    train = {"context": 1024, "block": "auto", "head_groups": 2, "steps": 1}
    small = job(model=model, train=train | {"block": 128}, memory={"device": "cuda", "device_limit": "1KiB"})
    least = re.search(r"smallest limit that works is .* \((\d+) bytes\)", on_gpu("prompt", "plan", small).refusal(3))
    file = job(model=model, train=train, memory={"device": "cuda", "device_limit": least[1]})
    run = on_gpu("prompt", "train", file, "--out", folder / "out", "--check=off", "--json")
    assert "trying blocks of 128 in 2 head groups" in run.err
    assert run.json()["departures"] == 0 and sizes(folder / "out") == (128, 2, 128)
    check_peak(run.json(), 1024)


def test_without_a_limit_a_plan_takes_what_the_gpu_has_free(folder, job):
    file = job(model=MODEL | {"layers": 12}, train=TRAIN, memory={"device": "cuda", "host_limit": "64MiB"})
    run = on_gpu("prompt", "train", file, "--out", folder / "out", "--json", MEMO_EMULATED_BYTES=str(64 << 20))
    assert "memory.device_limit = 60.00 MiB: what an emulated GPU has free, less a reserve" in run.err
    assert run.json()["device_peak_bytes"] < 60 << 20 and run.json()["departures"] == 0


def test_one_gpu_of_several_is_used(folder, job):
    file = job(model=MODEL, train=TRAIN, memory={"device": "cuda"})
    run = on_gpu("late", "train", file, "--out", folder / "out", "--json", MEMO_EMULATED_DEVICES="4").json()
    assert run["departures"] == 0


def test_float32_on_a_gpu_is_refused(folder, job):
    file = job(model=MODEL | {"dtype": "float32"}, train=TRAIN, memory={"device": "cuda"})
    assert "bfloat16" in on_gpu("prompt", "train", file, "--out", folder / "out").refusal(2)


def test_a_build_without_cuda_says_so(folder, job):
    line = memo("train", job(memory={"device": "cuda"}), "--out", folder / "out").refusal(2)
    assert "no CUDA backend" in line


def test_a_host_tier_on_the_cpu_is_refused(folder, job):
    line = memo("train", job(memory={"host_limit": "1MiB"}), "--out", folder / "out").refusal(2)
    assert "tier for GPUs" in line
