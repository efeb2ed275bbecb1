"""Layers that the host updates: bytes a parameter over the link, and the host's time against torch's fused AdamW.

    python benchmarks/host_updates.py --hidden 1024 --layers 4

Takes the command on the emulated GPU of the tests, since bytes and bits are what matters, not a GPU's times. The same job
is planned with optimizer state paged to the host, and updated there. Both are trained; a bit other than that of a run
without a limit ends with 1. The time of an update on the host is the profile's; its peer is torch.optim.AdamW(fused=True)
and a cast to bfloat16, of one layer, in this process, with the same number of threads. Prints Markdown.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from main_job import ROOT, machine

EMULATED = ROOT / "build" / "tests" / "memo_emulated"


def job_text(options, memory):
    text = ROOT / "examples/text"
    return f"""[model]
family = "llama"
hidden = {options.hidden}
layers = {options.layers}
heads = {options.hidden // 64}
kv_heads = {options.hidden // 64}
ffn = {3 * options.hidden}
vocab = 8192
dtype = "bfloat16"
[data]
files = ["{text}/kjv.txt"]
tokenizer = "{text}/tokenizer.json"
[train]
context = {options.context}
block = 128
steps = 2
[memory]
device = "cuda"
{memory}
"""


def parameters(options):
    h = options.hidden
    return 4 * h * h + 3 * h * 3 * h + 2 * h  # of a layer


def run(*arguments):
    done = subprocess.run([EMULATED, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"memo {arguments[0]}: {done.stderr.strip()}")
    return done.stdout


def column(table, name):
    return [row[table["columns"].index(name)] for row in table["rows"]]


def bytes_a_parameter(plan, options):
    """Bytes of weights, gradients and optimizer state that cross the link in a step, by parameters of the layers that any do."""
    program, classes = plan["program"], plan["profile"]["flow"]["classes"]
    tensor_of, cls_of, layer_of = (
        column(program["residencies"], "tensor"), column(program["tensors"], "class"), column(program["tensors"], "layer"))
    total, layers = 0, set()
    for residency in column(program["copies"], "residency"):
        tensor = tensor_of[residency]
        if (layer_bytes := classes[cls_of[tensor]].get("layer_bytes", 0)) > 0:
            total += layer_bytes
            layers.add(layer_of[tensor])
    return total / (len(layers) * parameters(options)), len(layers)


def peer_seconds(options, threads):
    """A step of torch's fused AdamW over a layer's parameters, and the cast of its weights; the median of several."""
    import torch

    torch.set_num_threads(threads)
    master = torch.nn.Parameter(torch.full((parameters(options),), 0.5))
    master.grad = torch.full_like(master, 0.5)
    value = torch.empty_like(master, dtype=torch.bfloat16)
    optimizer = torch.optim.AdamW([master], fused=True)
    seconds = []
    for _ in range(6):
        start = time.perf_counter()
        optimizer.step()
        with torch.no_grad():
            value.copy_(master)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hidden", type=int, default=1024, help="a multiple of 64")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--context", type=int, default=256)
    options = parser.parse_args()
    here = machine()
    threads = here["cores"]
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    limit = int(parameters(options) * options.layers * 18 * 0.6) + (8192 * options.hidden * 2 * 18)
    tier = f'host_limit = "8GiB"\ndevice_limit = "{limit}"'

    with tempfile.TemporaryDirectory(prefix="memo-bench-") as name:
        folder = Path(name)
        (folder / "whole.toml").write_text(job_text(options, ""))
        (folder / "job.toml").write_text(job_text(options, tier))
        run("profile", folder / "job.toml", "-o", folder / "profile.json")
        profile = json.loads((folder / "profile.json").read_text())
        on_host = [trace for trace in profile["traces"] if trace["segment"].startswith("host_update.")]
        host = sum(trace["seconds"] for trace in on_host)
        peer = peer_seconds(options, threads)

        digests = {"whole": json.loads(run("train", folder / "whole.toml", "--out", folder / "whole", "--json"))}
        print("| plan | layers | bytes a parameter over the link | bits |\n|---|---|---|---|")
        for who, seconds in ("paged", 1e3), ("updated on the host", 0.0):
            for trace in on_host:
                trace["seconds"] = seconds
            (folder / "tried.json").write_text(json.dumps(profile))
            run("plan", folder / "job.toml", "--profile", folder / "tried.json", "-o", folder / "plan.json")
            each, layers = bytes_a_parameter(json.loads((folder / "plan.json").read_text()), options)
            out = folder / who.replace(" ", "-")
            done = json.loads(run("train", folder / "job.toml", "--plan", folder / "plan.json", "--out", out, "--json"))
            same = all(done[key] == digests["whole"][key] for key in ("loss_digest", "grad_digest"))
            print(f"| {who} | {layers} of {options.layers} | {each:.1f} | {'the same' if same else 'OTHER'} |")
            if not same:
                sys.exit(1)
    millions = parameters(options) / 1e6
    print(f"\nThe host's update of a layer ({millions:.1f} M parameters): {host * 1e3:.1f} ms; torch's fused AdamW and a cast")
    print(f"{peer * 1e3:.1f} ms; ratio {host / peer:.2f}. {threads} threads, {here['cpu']}, torch {here['torch']}.")


if __name__ == "__main__":
    main()
