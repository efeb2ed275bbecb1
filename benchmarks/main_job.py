"""Memo against Transformers on the main job, in one run: the same weights, tokens, optimizer and threads.

    python benchmarks/main_job.py --contexts 16384 --steps 2 --peers plain,checkpointing -o main_job.json

Makes the model of about 34 M parameters with transformers, the tokens of examples/text, and runs `memo train` and
the peers one after the other, each in a process of its own; with --rounds all of them again. `resident` runs without a
limit. Prints a Markdown table; the ratios divide a row's figure by that of Transformers, or of `resident`, in the same
run, so less than 1 is better than the peer. A `tiled` peer is `checkpointing` with PyTorch's chunked loss.

Peak RSS is that of the whole process, so Memo's includes profiling and planning. The base is what a process holds
before it has a model: of a peer after its imports, of Memo the peak of `memo --version`. Peers inherit the environment:
with MALLOC_MMAP_THRESHOLD_ and the like their allocator can be tuned. Exits with 1 when first losses differ.
"""

import argparse
import json
import multiprocessing
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PEER = Path(__file__).resolve().parent / "transformers_peer.py"
LOSS_TOLERANCE = {"float32": 1e-5, "bfloat16": 1e-3}  # relative, of the first step: sums and roundings in another order
PEERS = ["plain", "checkpointing", "tiled"]
INFEASIBLE = 3  # exit code of memo

# Imports of these two stay inside them, and they run in a process apart: what getrusage tells of a child's peak starts
# at the memory of the process that forked it, so this one has to stay small.


def make_model(folder, max_context, seed):
    """Saves the model; the bytes of its weights, gradients and AdamW's two moments, which any trainer must hold."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        hidden_size=512,
        num_hidden_layers=8,
        num_attention_heads=8,
        num_key_value_heads=4,
        head_dim=64,
        intermediate_size=1536,
        vocab_size=8192,
        tie_word_embeddings=True,
        max_position_embeddings=max_context,
        bos_token_id=None,  # the text's tokenizer has no special tokens
        eos_token_id=None,
        dtype="float32",
    )
    model = LlamaForCausalLM(config)
    model.save_pretrained(folder)
    return 4 * 4 * sum(p.numel() for p in model.parameters())


def tokenize(count):
    """The first tokens of the example text, uint16."""
    import numpy as np
    from tokenizers import Tokenizer

    folder = ROOT / "examples/text"
    text = (folder / "kjv.txt").read_text(encoding="ascii")
    ids = Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text).ids
    if len(ids) < count:
        raise SystemExit(f"examples/text/kjv.txt has {len(ids)} tokens: a context of at most {len(ids) - 1} fits it")
    return np.array(ids[:count], dtype=np.uint16).tobytes()


def make_inputs(folder, contexts, seed):
    """folder/model, and folder/tokens-S.bin with one window of S + 1 tokens for each context S."""
    tokens = tokenize(max(contexts) + 1)
    for context in contexts:
        (folder / f"tokens-{context}.bin").write_bytes(tokens[: 2 * (context + 1)])
    return make_model(folder / "model", max(contexts), seed)


def apart(function, *arguments):
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def write_job(folder, context, options, device_limit, dtype="float32"):
    job = folder / f"job-{context}.toml"
    block = '"auto"' if options.block == "auto" else min(int(options.block), context)
    job.write_text(
        f"""seed = {options.seed}
[model]
path = "model"
dtype = "{dtype}"
[data]
files = ["tokens-{context}.bin"]  # one window: every step takes it
[train]
context = {context}
block = {block}
steps = {options.steps}
[memory]
device = "cpu"
device_limit = "{device_limit}"
disk = {json.dumps(options.disk)}
"""
    )
    return job


def high_water(pid):
    """Peak RSS of a running process so far, bytes; 0 when it has just ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:")), 0)


def run_measured(command):
    """(exit code, standard output, peak RSS in bytes, seconds) of a command; its standard error goes to ours."""
    print("+", " ".join(map(str, command)), file=sys.stderr, flush=True)
    start, peak = time.perf_counter(), 0
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(command, stdout=output)
        try:
            # Memo resets its high-water mark before the first step: look at it all the time.
            while not (ended := os.wait4(process.pid, os.WNOHANG))[0]:
                peak = max(peak, high_water(process.pid))
                time.sleep(0.05)
        except BaseException:
            process.kill()
            raise
        _, status, usage = ended
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        return process.returncode, output.read(), max(peak, usage.ru_maxrss * 1024), time.perf_counter() - start


def run_memo(memo, strategy, job, run):
    """The row of one `memo train`; with only a reason when no plan fits the limit."""
    code, _, base, _ = run_measured([memo, "--version"])
    if code != 0:
        raise SystemExit(f"{memo} --version ended with {code}")
    unlimited = ["--set", 'memory.device_limit="0"'] if strategy == "resident" else []
    code, _, peak, wall = run_measured([memo, "train", job, "--out", run, "--strategy", strategy, *unlimited])
    if code == INFEASIBLE:
        return {"reason": "no plan fits the device limit"}
    if code != 0:
        raise SystemExit(f"memo train --strategy {strategy} ended with {code}; its message is above")
    summary = json.loads((run / "summary.json").read_text())
    steps = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {
        "losses": [step["loss"] for step in steps],
        "step_seconds": [step["seconds"] for step in steps],
        "base_rss_bytes": base,
        "peak_rss_bytes": max(peak, summary["process_peak_rss_bytes"]),
        "steps_peak_rss_bytes": summary["process_peak_rss_bytes"],
        "process_seconds": wall,
        "summary": summary,
    }


def run_peer(mode, model, tokens, steps, dtype="float32"):
    command = [sys.executable, PEER, model, tokens, "--steps", str(steps), "--dtype", dtype]
    flags = {"plain": [], "checkpointing": ["--checkpointing"], "tiled": ["--checkpointing", "--tiled-loss"]}
    code, output, peak, wall = run_measured(command + flags[mode])
    if code != 0:
        return {"reason": "out of memory" if code == -9 else f"ended with {code}"}
    row = json.loads(output)
    return row | {"peak_rss_bytes": max(peak, row["peak_rss_bytes"]), "process_seconds": wall}


def over_rounds(who, context, rounds):
    """One row of all rounds: medians of times, the largest peak."""
    row = {"who": who, "context": context, "rounds": rounds}
    ran = [r for r in rounds if "losses" in r]
    if len(ran) < len(rounds):
        return row | {"reason": next(r["reason"] for r in rounds if "reason" in r)}
    later = [seconds for r in ran for seconds in r["step_seconds"][1:]]
    return row | {
        "first_step_seconds": statistics.median(r["step_seconds"][0] for r in ran),
        "later_step_seconds": statistics.median(later) if later else None,
        "process_seconds": statistics.median(r["process_seconds"] for r in ran),
        "peak_rss_bytes": max(r["peak_rss_bytes"] for r in ran),
        "base_rss_bytes": statistics.median_low([r["base_rss_bytes"] for r in ran]),
        "peak_over_base_bytes": max(r["peak_rss_bytes"] - r["base_rss_bytes"] for r in ran),
        "loss_first": ran[0]["losses"][0],
    }


COMPARED = ["first_step_seconds", "later_step_seconds", "peak_over_base_bytes"]


def who_is(mode):
    return "memo, resident" if mode == "resident" else f"transformers {mode}"


def add_ratios(rows, peers):
    """row["to_plain"][figure]: the row's figure over that of the peer at the same context."""
    for row in rows:
        for mode in peers:
            peer = next(r for r in rows if r["who"] == who_is(mode) and r["context"] == row["context"])
            if "reason" not in row and "reason" not in peer:
                row[f"to_{mode}"] = {f: row[f] / peer[f] for f in COMPARED if row[f] and peer[f]}


def markdown(header, rows):
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def table(rows, peers):
    def figures(row):
        later = row["later_step_seconds"]
        megabytes = [f"{row[k] / 1e6:.0f}" for k in ("peak_rss_bytes", "base_rss_bytes", "peak_over_base_bytes")]
        times = [f"{row['first_step_seconds']:.2f}", f"{later:.2f}" if later else "-", f"{row['process_seconds']:.1f}"]
        ratios = [f"{row[f'to_{m}'][f]:.3f}" if f in row.get(f"to_{m}", {}) else "-" for m in peers for f in COMPARED]
        return [*times, *megabytes, f"{row['loss_first']:.6f}", *ratios]

    header = ["who", "context", "first step s", "later steps s", "process s", "peak RSS MB", "base MB", "over base MB"]
    header += ["first loss"] + [f"{figure} / {mode}" for mode in peers for figure in ("first", "later", "over base")]
    empty = [""] * (len(header) - 3)
    def cells(row):
        return [row["who"], row["context"], *([row["reason"], *empty] if "reason" in row else figures(row))]

    return markdown(header, [cells(row) for row in rows])


def loss_difference(rows):
    """The largest relative difference of first losses at one context."""
    losses = {}
    for row in rows:
        losses.setdefault(row["context"], []).extend(r["losses"][0] for r in row["rounds"] if "losses" in r)
    return max(((max(of) - min(of)) / min(of) for of in losses.values() if of), default=0.0)


def machine():
    """Call it before the work: it looks whether others keep the cores busy, which makes times worthless."""
    load = os.getloadavg()[0]
    if load > 0.5:
        print(f"load average {load:.2f}: something else runs here, times will be too long", file=sys.stderr)
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": cpu[0] if cpu else platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "torch": version("torch"),
        "transformers": version("transformers"),
        "load_average": load,
    }


def names(text):
    return [name for name in text.split(",") if name]


def command_of(text):
    path = Path(text)
    if not os.access(path, os.X_OK):
        raise argparse.ArgumentTypeError(f"{path} is no command: run `make build`, or name another")
    return path


def common_arguments(parser):
    parser.add_argument("--memo", default=str(ROOT / "build/memo"), type=command_of, help="default build/memo")
    parser.add_argument("--block", default="1024", help='tokens per block, or "auto" (default 1024)')
    parser.add_argument("--disk", default="/var/tmp", help="folder of the disk tier and of this run's files")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("-o", "--output", type=Path, help="JSON file of all figures")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--contexts", default="16384", help="comma-separated")
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--strategies", default="memo", help="of memo train, comma-separated (default memo)")
    parser.add_argument("--peers", default="plain,checkpointing", help="any of " + ",".join(PEERS))
    parser.add_argument("--rounds", type=int, default=1, help="runs of everything, interleaved")
    parser.add_argument("--device-limit", default="1GiB", help="of memo (default 1GiB)")
    parser.add_argument("--dtype", default="float32", choices=LOSS_TOLERANCE, help="of compute (default float32)")
    common_arguments(parser)
    options = parser.parse_args()
    contexts, peers = [int(c) for c in names(options.contexts)], names(options.peers)
    if unknown := set(peers) - set(PEERS):
        parser.error(f"unknown peer {unknown.pop()!r}: {', '.join(PEERS)}")

    rows, here = [], machine()
    with tempfile.TemporaryDirectory(dir=options.disk, prefix="memo-bench-") as name:
        folder = Path(name)
        state = apart(make_inputs, folder, contexts, options.seed)
        for context in contexts:
            job = write_job(folder, context, options, options.device_limit, options.dtype)
            rounds = {}
            for i in range(options.rounds):
                for strategy in names(options.strategies):
                    row = run_memo(options.memo, strategy, job, folder / f"run-{context}-{strategy}-{i}")
                    rounds.setdefault(f"memo, {strategy}", []).append(row)
                for mode in peers:
                    row = run_peer(mode, folder / "model", folder / f"tokens-{context}.bin", options.steps, options.dtype)
                    rounds.setdefault(f"transformers {mode}", []).append(row)
            rows += [over_rounds(who, context, of) for who, of in rounds.items()]
    peers += ["resident"] if "resident" in names(options.strategies) else []
    add_ratios(rows, peers)
    difference = loss_difference(rows)
    settings = {k: str(v) if isinstance(v, Path) else v for k, v in vars(options).items()}
    result = {"version": 1, "machine": here, "settings": settings, "state_bytes": state, "rows": rows}
    result["first_loss_relative_difference"] = difference
    if options.output:
        options.output.write_text(json.dumps(result, indent=1) + "\n")
    print(table(rows, peers))
    print(
        f"\nWeights, gradients and AdamW's moments are {state / 1e6:.0f} MB of what is over base. "
        f"First losses differ by at most {difference:.1e} of their value."
    )
    return 0 if difference <= LOSS_TOLERANCE[options.dtype] else 1


if __name__ == "__main__":
    sys.exit(main())
