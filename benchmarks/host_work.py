"""The host's work a call in front of a GPU: processor time of the threads that launch kernels, on the emulated device, whose own
share is left out; so arithmetic and copies cost nothing. What is left is Memo's work and LibTorch's, without the few
microseconds that a launch takes from CUDA's runtime.

    python benchmarks/overhead.py --emulated          # the table of docs/measurements.md
    python benchmarks/host_work.py plug-in STEPS      # one process of it, on benchmarks/gpu/on_emulated.py

A model of hidden 64 in bfloat16, 8 layers, 16 blocks of 32 tokens, bytes as tokens. The plug-in's calls run modules of
Transformers, so its second figure leaves out what the plain layer's forward and backward take on as many blocks, measured in the
same process. Waits are those of the host for the device."""

import ctypes
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build"
LAYERS, HIDDEN, HEADS, BLOCK, BLOCKS, VOCABULARY = 8, 64, 2, 32, 16, 256
JOB = f"""[model]
family = "llama"
hidden = {HIDDEN}
layers = {LAYERS}
heads = {HEADS}
kv_heads = {HEADS}
ffn = {3 * HIDDEN}
vocab = {VOCABULARY}
tied = true
dtype = "bfloat16"
[data]
files = ["{ROOT}/examples/text/kjv.txt"]
[train]
context = {BLOCK * BLOCKS}
block = {BLOCK}
[memory]
device = "cuda"
host_limit = "256MiB"
"""


def computing_calls(plan):
    """Calls of a step but waits, which give the device nothing to do."""
    table = json.loads(Path(plan).read_text())["program"]["calls"]
    segments = [row[table["columns"].index("segment")] for row in table["rows"]]
    return sum(segment >= 0 for segment in segments)


def command_steps(folder, job, steps, strategy, plan):
    """Launches, seconds of the host's own work and waits of a run by a plan."""
    out = folder / f"{strategy}-{steps}"
    files = {"MEMO_EMULATED_HOST_WORK": str(out) + ".work", "MEMO_EMULATED_WAITS": str(out) + ".waits"}
    subprocess.run([BUILD / "tests/memo_emulated", "train", job, "--out", out, "--set", f"train.steps={steps}", "--set",
                    'train.checkpoint_every="never"', "--plan", plan, "--check=off"], check=True,
                   capture_output=True, env=os.environ | files | {"OMP_NUM_THREADS": "1"})
    launches, seconds = Path(files["MEMO_EMULATED_HOST_WORK"]).read_text().split()
    waits = sum(int(line.split()[0]) for line in Path(files["MEMO_EMULATED_WAITS"]).read_text().splitlines())
    return int(launches), float(seconds), waits


def of_the_command(folder, strategy, few=4, more=24):
    """A step's calls, launches, waits and seconds of the host: what a longer run has more than a shorter one."""
    job, plan = folder / "job.toml", folder / f"{strategy}.json"
    job.write_text(JOB)
    subprocess.run([BUILD / "tests/memo_emulated", "plan", job, "--strategy", strategy, "-o", plan], check=True,
                   capture_output=True)
    short, long = (command_steps(folder, job, steps, strategy, plan) for steps in (few, more))
    launches, seconds, waits = ((b - a) / (more - few) for a, b in zip(short, long))
    return {"calls": computing_calls(plan), "launches": launches, "waits": waits, "seconds": seconds}


def of_the_plug_in(folder, steps=10):
    environment = {"PYTHONPATH": str(BUILD / "python_emulated"), "MEMO_EMULATED_PACE": "prompt", "OMP_NUM_THREADS": "1"}
    run = subprocess.run([sys.executable, ROOT / "benchmarks/gpu/on_emulated.py", __file__, "plug-in", str(steps), folder],
                         check=True, capture_output=True, text=True, env=os.environ | environment)
    return json.loads(run.stdout.splitlines()[-1])


def plug_in(steps, folder):
    """In a process with the emulated device: prints a step's calls, launches and seconds of the host, attached, and of the plain
    layers on as many blocks."""
    import torch
    import transformers

    library = ctypes.CDLL(os.environ["MEMO_EMULATED_LIBRARY"])
    library.memo_emulated_waits.restype = ctypes.c_char_p

    def host_work():
        launches, seconds = ctypes.c_int64(), ctypes.c_double()
        library.memo_emulated_host_work(ctypes.byref(launches), ctypes.byref(seconds))
        waits = sum(int(line.split()[0]) for line in library.memo_emulated_waits().decode().splitlines())
        return launches.value, seconds.value, waits

    def measure(step):
        """Medians of launches, of the host's own seconds and of its waits, after two steps that are not counted."""
        rows = []
        for _ in range(steps + 2):
            before = host_work()
            step()
            rows.append([b - a for a, b in zip(before, host_work())])
        return [statistics.median(column) for column in zip(*rows[2:])]

    torch.manual_seed(1)
    shape = dict(hidden_size=HIDDEN, intermediate_size=3 * HIDDEN, num_hidden_layers=LAYERS, num_attention_heads=HEADS,
                 num_key_value_heads=HEADS, vocab_size=VOCABULARY, max_position_embeddings=BLOCK * BLOCKS)
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**shape)).to(torch.bfloat16).cuda()
    x = torch.randn(1, BLOCK * BLOCKS, HIDDEN, dtype=torch.bfloat16, device="cuda")

    def layers(tokens):
        def step():
            inputs = x[:, :tokens].clone().requires_grad_()
            positions = torch.arange(tokens, device="cuda")[None]
            rotary = model.model.rotary_emb(inputs, positions)
            out = inputs
            for layer in model.model.layers:
                out = layer(out, position_embeddings=rotary, position_ids=positions)
                out = out[0] if isinstance(out, tuple) else out
            out.backward(torch.ones_like(out))
        return step

    plain = measure(layers(BLOCK))
    import memo

    attachment = memo.attach(model, context=BLOCK * BLOCKS, block=BLOCK, host_limit="256MiB")
    ids = torch.randint(0, VOCABULARY, (1, BLOCK * BLOCKS), device="cuda")
    loss = []

    def attached():
        loss.append(model(input_ids=ids, labels=ids).loss)
        loss.pop().backward()

    launches, seconds, waits = measure(attached)
    plan = Path(folder) / "plug-in.json"
    attachment.plan.save(str(plan))
    print(json.dumps({"calls": computing_calls(plan), "launches": launches, "seconds": seconds, "waits": waits,
                      "plain": {"launches": BLOCKS * plain[0], "seconds": BLOCKS * plain[1]},
                      "departures": attachment.departures[0]}))


def table(folder):
    """Rows: who, calls a step, launches a call, the host's us a call, of those beyond the plain layers', waits a step."""
    rows = []
    for strategy in ("resident", "offload"):
        step = of_the_command(folder, strategy)
        rows.append([f"command, {strategy}", step["calls"], f"{step['launches'] / step['calls']:.1f}",
                     f"{1e6 * step['seconds'] / step['calls']:.0f}", "-", f"{step['waits']:.0f}"])
    step = of_the_plug_in(folder)
    beyond = step["seconds"] - step["plain"]["seconds"]
    rows.append(["plug-in", step["calls"], f"{step['launches'] / step['calls']:.1f}",
                 f"{1e6 * step['seconds'] / step['calls']:.0f}", f"{1e6 * beyond / step['calls']:.0f}", f"{step['waits']:.0f}"])
    return rows


if __name__ == "__main__":
    plug_in(int(sys.argv[2]), sys.argv[3])
