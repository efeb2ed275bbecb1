"""What `memo estimate --hardware here` says of this machine, against runs: memory and step time.

    python benchmarks/here.py --contexts 2048,4096,8192 --steps 3

The model and text of main_job.py. The estimate knows the model's sizes and some seconds of measured rates; it profiles no
layer. `memo` runs within 1.01 times the least that it needs by its estimate, everything streamed and paged, the others without a
limit. Every estimate is made just before its run. Prints a Markdown table; of a run's steps the median of the later ones counts.
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from main_job import INFEASIBLE, apart, common_arguments, machine, make_inputs, markdown, names, write_job
from predictions import memo


def question(options, folder, context, strategy):
    arguments = ["--model", folder / "model", "--hardware", "here", "--disk", options.disk, "--context", str(context)]
    return [*arguments, "--block", str(min(int(options.block), context)), "--strategy", strategy, "--tensor", "1"]


def estimate(options, folder, context, strategy, *more):
    return json.loads(memo(options, "estimate", *question(options, folder, context, strategy), *more, "--json"))["found"][0]


def least(options, folder, context):
    """Bytes: of the smallest limit under which Memo's strategy is estimated to work."""
    command = [options.memo, "estimate", *question(options, folder, context, "memo"), "--device-limit", "1MiB"]
    refused = subprocess.run(command, capture_output=True, text=True)
    if refused.returncode != INFEASIBLE:
        raise SystemExit(refused.stderr)
    return int(re.search(r"\((\d+) bytes\)", refused.stdout)[1])


def compare(options, folder, context, strategy, limit):
    given = ["--device-limit", str(limit)] if limit else []
    predicted = estimate(options, folder, context, strategy, *given)
    run = folder / f"run-{context}-{strategy}"
    job = write_job(folder, context, options, str(limit))
    summary = json.loads(memo(options, "train", job, "--out", run, "--strategy", strategy, "--json"))
    steps = [json.loads(line)["seconds"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {
        "strategy": strategy,
        "context": context,
        "peak": summary["device_peak_bytes"],
        "peak_predicted": predicted["tensor_bytes"],
        "seconds": statistics.median(steps[1:]),
        "seconds_predicted": predicted["step_seconds"],
    }


def error(row, figure):
    return row[f"{figure}_predicted"] / row[figure] - 1


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--contexts", default="2048,4096,8192", help="comma-separated")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--strategies", default="resident,recompute,offload,memo", help="comma-separated")
    common_arguments(parser)
    options = parser.parse_args()
    contexts, rows, here = [int(c) for c in names(options.contexts)], [], machine()
    with tempfile.TemporaryDirectory(dir=options.disk, prefix="memo-bench-") as name:
        folder = Path(name)
        apart(make_inputs, folder, contexts, options.seed)
        for context in contexts:
            for strategy in names(options.strategies):
                limit = least(options, folder, context) * 101 // 100 if strategy == "memo" else 0
                rows.append(compare(options, folder, context, strategy, limit))
    header = ["strategy", "context", "peak predicted MB", "measured MB", "error", "step predicted s", "measured s", "error"]
    cells = [
        [
            r["strategy"],
            r["context"],
            f"{r['peak_predicted'] / 1e6:.1f}",
            f"{r['peak'] / 1e6:.1f}",
            f"{100 * error(r, 'peak'):+.1f} %",
            f"{r['seconds_predicted']:.2f}",
            f"{r['seconds']:.2f}",
            f"{100 * error(r, 'seconds'):+.1f} %",
        ]
        for r in rows
    ]
    print(markdown(header, cells))
    for figure in ("peak", "seconds"):
        errors = [abs(error(r, figure)) for r in rows]
        print(f"\n{figure}: median error {100 * statistics.median(errors):.1f} %, largest {100 * max(errors):.1f} %")
    if options.output:
        options.output.write_text(json.dumps({"version": 1, "machine": here, "rows": rows}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
