"""How much of a step is matrix products and attention: the profile's calls against bare products of the same shapes.

    python benchmarks/products.py --context 8192 --rounds 3

The model of main_job.py. In every round `memo profile` measures the calls of a block and of attention, and this process
the products in them, in the same LibTorch with as many threads, into memory that is there. Medians over rounds. What of a
step is neither product nor attention: norms, rotary tables, activations, residuals, the softmax of the loss, the
optimizer, and the executor's own work in a call.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from main_job import apart, common_arguments, machine, make_inputs, markdown, write_job

HIDDEN, QUERY, KEY, FFN, VOCABULARY, LAYERS = 512, 512, 256, 1536, 8192, 8

# (rows of the weight, columns of the weight) of the products in each segment.
WEIGHTS = {
    "attn_in": (QUERY + 2 * KEY, HIDDEN),
    "attn_out": (HIDDEN, QUERY),
    "mlp_in": (2 * FFN, HIDDEN),
    "mlp_out": (HIDDEN, FFN),
    "loss": (VOCABULARY, HIDDEN),
}


def product_seconds(tokens):
    """Of each segment: (forward, backward), the products alone. The loss does all three forward."""
    import torch

    def timed(work):
        work()
        times = []
        for _ in range(9):
            start = time.perf_counter()
            work()
            times.append(time.perf_counter() - start)
        return statistics.median(times)

    result = {}
    for name, (rows, columns) in WEIGHTS.items():
        x, y, w = torch.randn(tokens, columns), torch.randn(tokens, rows), torch.randn(rows, columns)
        dx, dw = torch.zeros(tokens, columns), torch.zeros(rows, columns)
        forward = timed(lambda: torch.mm(x, w.t(), out=y))
        backward = timed(lambda: torch.mm(y, w, out=dx)) + timed(lambda: torch.addmm(dw, y.t(), x, out=dw))
        result[name] = (forward + backward, 0.0) if name == "loss" else (forward, backward)
    return result


def call_seconds(options, job, folder):
    """Of each segment: (forward, backward) of a block, or of all head groups, or of the whole model's update."""
    file = folder / "profile.json"
    subprocess.run([options.memo, "profile", job, "-o", file], check=True, stdout=subprocess.DEVNULL)
    profile = json.loads(file.read_text())
    result = {}
    for trace in profile["traces"]:
        if trace["tokens"] in (profile["flow"]["block_tokens"], profile["flow"]["context_tokens"]):
            pair = result.setdefault(trace["segment"], [0.0, 0.0])
            pair[trace["backward"]] = trace["seconds"]
    groups = profile["flow"]["groups"]
    result["attention"] = [seconds * groups for seconds in result["attention"]]
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--context", type=int, default=8192)
    parser.add_argument("--rounds", type=int, default=3)
    common_arguments(parser)
    options = parser.parse_args()
    options.steps = 1
    block, blocks, here = int(options.block), options.context // int(options.block), machine()

    with tempfile.TemporaryDirectory(dir=options.disk, prefix="memo-bench-") as name:
        folder = Path(name)
        apart(make_inputs, folder, [options.context], options.seed)
        job = write_job(folder, options.context, options, "0")
        rounds = [(call_seconds(options, job, folder), apart(product_seconds, block)) for _ in range(options.rounds)]
    median = lambda pick: statistics.median(pick(calls, products) for calls, products in rounds)

    cells, product, token_wise = [], 0.0, 0.0
    for segment in WEIGHTS:
        times = blocks * (1 if segment == "loss" else LAYERS)
        for side in range(1 if segment == "loss" else 2):
            call = median(lambda calls, _: calls[segment][side])
            alone = median(lambda _, products: products[segment][side])
            product, token_wise = product + times * min(alone, call), token_wise + times * call
            what = f"{segment} {'backward' if side else 'forward'}" if segment != "loss" else "loss, both"
            cells.append([what, f"{1e3 * call:.2f}", f"{1e3 * alone:.2f}", f"{alone / call:.3f}", f"{times * call:.2f}"])
    attention = LAYERS * median(lambda calls, _: sum(calls["attention"]))
    updates = median(
        lambda calls, _: LAYERS * (calls["update.before"][0] + calls["update.after"][0]) + calls["optimizer"][0]
    )
    rest = blocks * median(lambda calls, _: sum(calls["embedding"])) + updates
    step = token_wise + attention + rest
    print(markdown(["a block's call", "call ms", "products alone ms", "products / call", "in a step s"], cells))
    print(
        f"\nOf a step of {step:.2f} s at {options.context} tokens: products {100 * product / step:.1f} %, attention "
        f"{100 * attention / step:.1f} %, all else {100 * (1 - (product + attention) / step):.1f} % or more "
        f"(optimizer {100 * updates / step:.1f} %)."
    )
    if options.output:
        options.output.write_text(json.dumps({"version": 1, "machine": here, "rounds": rounds}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
