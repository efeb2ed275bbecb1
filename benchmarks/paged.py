"""A model whose weights, gradients and optimizer state are several times the device limit, against itself without a limit.

    python benchmarks/paged.py --layers 24 --hidden 768 --context 4096 --times 3 -o paged.json

The limit is the state over --times; what does not fit lives on the disk and crosses it layer by layer. With --clips 1,0 also
without clipping, where layers are updated as soon as backward has left them. Prints a Markdown table; the ratios divide by
the run of the same clip without a limit. Exits with 1 when a bit of loss or gradient differs.
"""

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path

from main_job import ROOT, common_arguments, machine, markdown, names, run_memo

VOCABULARY = 8192


def state_bytes(options):
    """Of a llama with tied embeddings and as many key heads as heads: 16 bytes a parameter (float32)."""
    h, ffn = options.hidden, 3 * options.hidden
    layer = 4 * h * h + 3 * h * ffn + 2 * h
    return 16 * (options.layers * layer + VOCABULARY * h + h)


def write_job(folder, options, limit, clip):
    text = ROOT / "examples/text"
    job = folder / f"job-{limit}-{clip}.toml"
    job.write_text(
        f"""seed = {options.seed}
[model]
family = "llama"
hidden = {options.hidden}
layers = {options.layers}
heads = {options.hidden // 64}
kv_heads = {options.hidden // 64}
ffn = {3 * options.hidden}
vocab = {VOCABULARY}
tied = true
[data]
files = ["{text}/kjv.txt"]
tokenizer = "{text}/tokenizer.json"
[train]
context = {options.context}
block = {min(int(options.block), options.context)}
steps = {options.steps}
clip = {clip}
[memory]
device_limit = "{limit}"
disk = {json.dumps(options.disk)}
"""
    )
    return job


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=24)
    parser.add_argument("--hidden", type=int, default=768, help="a multiple of 64")
    parser.add_argument("--context", type=int, default=4096)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--times", type=float, default=3, help="the state is so many times the limit")
    parser.add_argument("--clips", default="1", help="train.clip, comma-separated (default 1)")
    common_arguments(parser)
    options = parser.parse_args()
    state, here = state_bytes(options), machine()
    limit = int(state / options.times)

    with tempfile.TemporaryDirectory(dir=options.disk, prefix="memo-bench-") as name:
        folder = Path(name)
        rows = {}
        for clip in map(float, names(options.clips)):
            for who, bytes_ in ("without a limit", 0), ("paged", limit):
                job = write_job(folder, options, bytes_, clip)
                row = rows[who, clip] = run_memo(options.memo, "memo", job, folder / f"run-{bytes_}-{clip}")
                if "reason" in row:
                    raise SystemExit(f"{who}: {row['reason']}")
    later = {key: statistics.median(row["step_seconds"][1:]) for key, row in rows.items()}
    cells = []
    for (who, clip), row in rows.items():
        s = row["summary"]
        over = row["steps_peak_rss_bytes"] - row["base_rss_bytes"]
        cells.append(
            [who, clip, f"{s['device_peak_bytes'] / 1e6:.0f}", f"{over / 1e6:.0f}"]
            + [f"{s['step_seconds_predicted']:.2f}", f"{later[who, clip]:.2f}"]
            + [f"{later[who, clip] / later['without a limit', clip]:.3f}"]
            + [f"{s['stall_seconds']:.2f}", f"{s['bytes_out'] / 1e6:.0f}", f"{s['bytes_in'] / 1e6:.0f}", s["departures"]]
        )
    header = ["who", "clip", "device peak MB", "RSS over base MB", "step predicted s", "step s", "/ without", "stalls s"]
    print(markdown(header + ["MB out", "MB in", "departures"], cells))
    same = all(
        row["summary"][digest] == rows["without a limit", clip]["summary"][digest]
        for (_, clip), row in rows.items()
        for digest in ("loss_digest", "grad_digest")
    )
    print(f"\nThe state is {state / 1e6:.0f} MB, the limit {limit / 1e6:.0f} MB; digests {'equal' if same else 'DIFFER'}.")
    if options.output:
        result = {"version": 1, "machine": here, "state_bytes": state, "limit_bytes": limit}
        result["rows"] = [{"who": who, "clip": clip, **row} for (who, clip), row in rows.items()]
        options.output.write_text(json.dumps(result, indent=1) + "\n")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
