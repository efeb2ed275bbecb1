"""What Memo predicts against what it measures: device peak and step time, at several contexts under each strategy.

    python benchmarks/predictions.py --contexts 2048,4096,8192 --steps 4 --rounds 3 -o predictions.json

The model and text of main_job.py. At each context one profile serves all strategies: `resident` runs without a limit,
the others under --device-limit or, by default, halfway between what recomputation and residence need. In every round
each strategy is profiled, planned and run anew. A shared machine only ever slows things down, so the fastest prediction
is held against the fastest step (not the first of a run, which pays for fresh pages); the medians' error and the spread
of the steps, slowest over fastest, stand beside it. Prints a Markdown table; exits with 1 when strategies that ran
differ in a bit of loss or gradient, or depart from their plans.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from main_job import apart, common_arguments, machine, make_inputs, markdown, names, write_job


def memo(options, *arguments):
    """Standard output of a run of memo; its messages go to standard error."""
    command = [options.memo, *arguments]
    print("+", " ".join(map(str, command)), file=sys.stderr, flush=True)
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise SystemExit(f"memo {arguments[0]} ended with {done.returncode}; its message is above")
    return done.stdout


def halfway(options, job, profile):
    """Bytes: the mean of the predicted peaks without a limit of `recompute` and `resident`."""
    plans = [
        json.loads(memo(options, "plan", job, "--profile", profile, "--strategy", strategy, "--json"))
        for strategy in ("recompute", "resident")
    ]
    return sum(plan["device_peak_bytes"] for plan in plans) // 2


def compare(options, context, folder):
    """Rows of compare.json of all strategies at one context, each with its device limit."""
    job, profile = write_job(folder, context, options, "0"), folder / f"profile-{context}.json"
    memo(options, "profile", job, "-o", profile)
    limited = options.device_limit or str(halfway(options, job, profile))
    rounds = {strategy: [] for strategy in names(options.strategies)}
    for i in range(options.rounds):
        for strategy, rows in rounds.items():
            limit = "0" if strategy == "resident" else limited
            out = folder / f"compare-{context}-{strategy}-{i}"
            # As `memo train` does: profiled just before, so that the machine's drift does not count as an error.
            arguments = ["--strategies", strategy, "--set", f'memory.device_limit="{limit}"']
            [row] = json.loads(memo(options, "compare", job, "--out", out, *arguments, "--json"))["rows"]
            metrics = out / strategy / "metrics.jsonl"
            steps = [json.loads(line)["seconds"] for line in metrics.read_text().splitlines()] if row["ran"] else []
            rows.append({"context": context, "device_limit": limit, "later_steps": steps[1:]} | row)
    return [over_rounds(rows) for rows in rounds.values()]


def over_rounds(rows):
    """One row: the fastest of the times, everything else of the round that is worst for us."""
    refused = next((row for row in rows if not row["ran"]), None)
    if refused:
        return refused
    summaries = [row["summary"] for row in rows]
    worst = max(summaries, key=lambda s: (s["departures"], abs(error(s, "device_peak_bytes"))))
    steps = [seconds for row in rows for seconds in row["later_steps"]]
    predicted = [s["step_seconds_predicted"] for s in summaries]
    times = {"step_seconds": min(steps), "step_seconds_predicted": min(predicted)}
    return rows[0] | {
        "summary": worst | times,
        "median_error_percent": 100 * (statistics.median(steps) / statistics.median(predicted) - 1),
        "spread_percent": 100 * (max(steps) / min(steps) - 1),
        "bits": sorted({digests(s) for s in summaries}),
        "rounds": summaries,
    }


def error(summary, figure):
    """Percent by which the measurement is above the prediction."""
    return 100 * (summary[figure] / summary[figure + "_predicted"] - 1)


def digests(summary):
    return summary["loss_digest"], summary["grad_digest"]


def cells(row, first):
    if not row["ran"]:
        return [row["strategy"], row["context"], row["reason"], *[""] * 10]
    s = row["summary"]
    sizes = [f"{s[k] / 1e6:.1f}" for k in ("device_peak_bytes_predicted", "device_peak_bytes")]
    times = [f"{s[k]:.3f}" for k in ("step_seconds_predicted", "step_seconds")]
    return [
        *(row["strategy"], row["context"]),
        *(*sizes, f"{error(s, 'device_peak_bytes'):+.2f} %"),
        *(*times, f"{error(s, 'step_seconds'):+.1f} %"),
        *(f"{row['median_error_percent']:+.1f} %", f"{row['spread_percent']:.0f} %"),
        *(f"{s['stall_seconds']:.3f}", s["departures"], "equal" if row["bits"] == [first] else "DIFFER"),
    ]


HEADER = ["strategy", "context", "peak predicted MB", "peak measured MB", "peak error"]
HEADER += ["step predicted s", "step measured s", "step error", "of medians", "spread", "stalls s", "departures", "digests"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--contexts", default="2048,4096,8192", help="comma-separated")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--strategies", default="resident,recompute,offload,memo,memo-alpha", help="comma-separated")
    parser.add_argument("--device-limit", help="of all but resident, such as 700MiB (default: halfway)")
    common_arguments(parser)
    options = parser.parse_args()
    contexts = [int(c) for c in names(options.contexts)]

    rows, lines, good, here = [], [], True, machine()
    with tempfile.TemporaryDirectory(dir=options.disk, prefix="memo-bench-") as name:
        folder = Path(name)
        apart(make_inputs, folder, contexts, options.seed)
        for context in contexts:
            at_context = compare(options, context, folder)
            ran = [row for row in at_context if row["ran"]]
            bits = {bits for row in ran for bits in row["bits"]}
            good &= len(bits) <= 1 and all(row["summary"]["departures"] == 0 for row in ran)
            lines += [cells(row, ran[0]["bits"][0] if ran else None) for row in at_context]
            rows += at_context
    print(markdown(HEADER, lines))
    ran = [row["summary"] for row in rows if row["ran"]]
    largest = {f: max((abs(error(s, f)) for s in ran), default=0.0) for f in ("device_peak_bytes", "step_seconds")}
    print(f"\nLargest error: peak {largest['device_peak_bytes']:.2f} %, step {largest['step_seconds']:.1f} %.")
    if options.output:
        settings = {k: str(v) if isinstance(v, Path) else v for k, v in vars(options).items()}
        result = {"version": 1, "machine": here, "settings": settings, "largest_error_percent": largest, "rows": rows}
        options.output.write_text(json.dumps(result, indent=1) + "\n")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
