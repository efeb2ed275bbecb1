"""What Memo predicts against what it measures: device peak and step time, at several contexts under each strategy.

    python benchmarks/predictions.py --contexts 2048,4096,8192 --steps 4 -o predictions.json

The model and text of main_job.py. At each context one profile serves all strategies: `resident` runs without a limit,
the others under --device-limit or, by default, halfway between what recomputation and residence need. Prints a Markdown
table; exits with 1 when strategies that ran differ in a bit of loss or gradient, or depart from their plans.
"""

import argparse
import json
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
    rows = []
    for strategy in names(options.strategies):
        limit = "0" if strategy == "resident" else limited
        out = folder / f"compare-{context}-{strategy}"
        # As `memo train` does: profiled just before, so that the machine's drift does not count as an error.
        arguments = ["--strategies", strategy, "--set", f'memory.device_limit="{limit}"']
        [row] = json.loads(memo(options, "compare", job, "--out", out, *arguments, "--json"))["rows"]
        rows.append({"context": context, "device_limit": limit} | row)
    return rows


def error(summary, figure):
    """Percent by which the measurement is above the prediction."""
    return 100 * (summary[figure] / summary[figure + "_predicted"] - 1)


def digests(summary):
    return summary["loss_digest"], summary["grad_digest"]


def cells(row, first):
    if not row["ran"]:
        return [row["strategy"], row["context"], row["reason"], *[""] * 8]
    s = row["summary"]
    sizes = [f"{s[k] / 1e6:.1f}" for k in ("device_peak_bytes_predicted", "device_peak_bytes")]
    times = [f"{s[k]:.3f}" for k in ("step_seconds_predicted", "step_seconds")]
    return [
        *(row["strategy"], row["context"]),
        *(*sizes, f"{error(s, 'device_peak_bytes'):+.2f} %"),
        *(*times, f"{error(s, 'step_seconds'):+.1f} %"),
        *(f"{s['stall_seconds']:.3f}", s["departures"], "equal" if digests(s) == digests(first) else "DIFFER"),
    ]


HEADER = ["strategy", "context", "peak predicted MB", "peak measured MB", "peak error"]
HEADER += ["step predicted s", "step measured s", "step error", "stalls s", "departures", "digests"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--contexts", default="2048,4096,8192", help="comma-separated")
    parser.add_argument("--steps", type=int, default=4)
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
            ran = [row["summary"] for row in at_context if row["ran"]]
            good &= len({digests(s) for s in ran}) <= 1 and all(s["departures"] == 0 for s in ran)
            lines += [cells(row, ran[0] if ran else None) for row in at_context]
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
