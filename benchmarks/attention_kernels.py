"""Which kernel of attention trains long contexts how fast, on paper: a table of causal MFU by `memo estimate`, for models on one
GPU at 64K to 1M tokens, with each kernel whose rate is known; and Memo's plan beside published runs of the same shapes. It takes
some minutes.

    .venv/bin/python benchmarks/attention_kernels.py [--command build/memo]
"""

import argparse
import json
import subprocess

MODELS = ("qwen3-0.6b", "qwen3-1.7b", "qwen3-4b", "qwen3-8b")
GPUS = {"H100": ("flash2", "cudnn", "flash3"), "H200": ("flash2", "cudnn", "flash3")}
CONTEXTS = {"64K": 65536, "128K": 131072, "256K": 262144, "512K": 524288, "1M": 1048576}
# Published runs (docs/validation.md): who, row, model, GPU, context, seconds a step.
PUBLISHED = (("TRL", "P0193", "qwen3-8b", "H100x8", 1048576, 364), ("TRL", "P0213", "qwen3-4b", "H100x8", 131072, 9.5),
             ("ALST", "P0168", "llama-3-8b", "H100x1", 500000, 1010), ("ALST", "P0163", "llama-3-8b", "H100x8", 1100000, 564))
NAMES = {"attention": "attention", "matmul": "products", "memory": "other kernels", "recompute": "recomputation",
         "collectives": "collectives", "stalls": "copies", "bubble": "bubble", "update": "update"}


def estimate(command, model, hardware, context, *more):
    """The estimate of Memo's own strategy; None if not even its state fits."""
    command = [command, "estimate", "--model", model, "--hardware", hardware, "--context", str(context), "--json", *more]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=False).stdout)["found"]
    return found[0] if found and found[0]["fits"] else None


def cell(found):
    """MFU, and what binds: the causes besides attention and products of at least 2 % of the step."""
    if found is None:
        return "-"
    causes = {name: found["split_seconds"][name] / found["step_seconds"] for name in NAMES if name not in ("attention", "matmul")}
    causes = {name: share for name, share in sorted(causes.items(), key=lambda item: -item[1]) if share >= 0.02}
    told = ", ".join(f"{NAMES[name]} {100 * share:.0f}" for name, share in causes.items())
    return f"{100 * found['mfu_causal']:.0f}" + (f" ({told})" if told else "")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--command", default="build/memo")
    command = parser.parse_args().command
    for gpu, kernels in GPUS.items():
        print(f"\n| {gpu}, causal MFU in % | kernel | {' | '.join(CONTEXTS)} |\n|---|---|{'---|' * len(CONTEXTS)}")
        for model in MODELS:
            for kernel in kernels:
                cells = [cell(estimate(command, model, gpu, context, "--attention", kernel)) for context in CONTEXTS.values()]
                print(f"| {model} | {kernel} | {' | '.join(cells)} |", flush=True)
    print("\n| published | model | GPUs | tokens | measured | Memo, flash2 | Memo, cudnn | of that attention |")
    print("|---|---|---|---|---|---|---|---|")
    for who, row, model, hardware, context, seconds in PUBLISHED:
        by = {kernel: estimate(command, model, hardware, context, "--attention", kernel) for kernel in ("flash2", "cudnn")}
        steps = [f"{found['step_seconds']:.3g} s" if found else "does not fit" for found in by.values()]
        print(f"| {who}, {row} | {model} | {hardware} | {context} | {seconds} s | {' | '.join(steps)} | "
              f"{by['cudnn']['split_seconds']['attention'] if by['cudnn'] else 0:.3g} s |", flush=True)


if __name__ == "__main__":
    main()
