"""MEMO's published results (SIGMOD 2025, arXiv 2407.12117) as `memo estimate` predicts them.

    python benchmarks/paper.py

7B, 13B, 30B and 65B on 8, 16, 32 and 64 A800; contexts in the paper's steps. `memo-alpha` is MEMO as published, `megatron` and
`deepspeed` are its peers, each with the degrees that suit it best; `memo` is Memo's own executor. MFU counts causal attention.
The advantage is the mean over models and contexts of MEMO's MFU over the peer's, where both fit. Prints Markdown tables.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

from main_job import INFEASIBLE, command_of, markdown, names

ROOT = Path(__file__).resolve().parent.parent
SETUPS = {"gpt-7b": 8, "gpt-13b": 16, "gpt-30b": 32, "gpt-65b": 64}
STRATEGIES = ["memo-alpha", "megatron", "deepspeed", "memo"]
STEPS = [64, 128, *range(256, 1409, 128)]  # K tokens


def mfu(options, model, context, strategy):
    """Per cent, or None where it does not fit."""
    command = [options.memo, "estimate", "--model", model, "--hardware", f"A800x{SETUPS[model]}"]
    command += ["--context", str(context * 1024), "--strategy", strategy, "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode == INFEASIBLE:
        return None
    if done.returncode != 0:
        raise SystemExit(done.stderr)
    return 100 * json.loads(done.stdout)["found"][0]["mfu_causal"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--memo", default=str(ROOT / "build/memo"), type=command_of, help="default build/memo")
    parser.add_argument("--models", default=",".join(SETUPS), help="comma-separated")
    parser.add_argument("--strategies", default=",".join(STRATEGIES), help="comma-separated, memo-alpha first")
    parser.add_argument("--steps", default=",".join(map(str, STEPS)), help="contexts, in units of 1024 tokens")
    options = parser.parse_args()
    steps, strategies = [int(s) for s in names(options.steps)], names(options.strategies)
    ratios, longest = {}, []
    for model in names(options.models):
        found = {s: [mfu(options, model, step, s) for step in steps] for s in strategies}
        rows = [[s, *("-" if value is None else f"{value:.1f}" for value in found[s])] for s in strategies]
        print(markdown([f"MFU %, {model} on {SETUPS[model]} A800", *(f"{step}K" for step in steps)], rows), "\n")
        fits = {s: [step for step, value in zip(steps, found[s]) if value is not None] for s in strategies}
        longest.append([model, *(f"{max(fits[s])}K" if fits[s] else "-" for s in strategies)])
        for peer in {"megatron", "deepspeed"}.intersection(strategies):
            both = [a / b for a, b in zip(found["memo-alpha"], found[peer]) if a and b]
            ratios.setdefault(peer, []).extend(both)
    print(markdown(["longest of these", *strategies], longest), "\n")
    for peer, values in ratios.items():
        print(f"memo-alpha over {peer}: {sum(values) / len(values):.2f} in the mean of {len(values)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
