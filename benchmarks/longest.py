"""The longest context under a memory limit: of Memo, and of Transformers with and without gradient checkpointing.

    python benchmarks/longest.py --limit 1GiB

The model of main_job.py. Memo's limit is for all that it holds, and its longest context the longest that it plans for, by
bisection in steps of --grain tokens (an hour a step on two cores: train it for yourself). A peer's is the longest that it
trains a step of with a peak RSS over its base within the limit, in steps of a block of 128 tokens.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from main_job import INFEASIBLE, apart, common_arguments, machine, make_inputs, make_model, markdown, names, run_peer, write_job

UNITS = {"MiB": 2**20, "GiB": 2**30}


def longest(works, start, grain):
    """The largest multiple of `grain` for which works() holds: doubling from `start`, then bisection."""
    good, bad = 0, None
    while bad is None or bad - good > grain:
        trial = max(start, 2 * good) if bad is None else (good + bad) // 2 // grain * grain
        good, bad = (trial, bad) if works(trial) else (good, trial)
        if bad is not None and good == 0 and bad <= grain:
            return 0
    return good


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", default="1GiB", help="MiB or GiB (default 1GiB)")
    parser.add_argument("--grain", type=int, default=16384, help="tokens (default 16384)")
    parser.add_argument("--peers", default="plain,checkpointing")
    common_arguments(parser)
    options = parser.parse_args()
    options.steps, here = 1, machine()
    number, unit = re.fullmatch(r"(\d+)\s*(MiB|GiB)", options.limit).groups()
    limit = int(number) * UNITS[unit]

    with tempfile.TemporaryDirectory(dir=options.disk, prefix="memo-bench-") as name:
        folder = Path(name)
        apart(make_inputs, folder, [65536], options.seed)
        tokens = (folder / "tokens-65536.bin").read_bytes()

        def peer_works(mode, context):
            window = folder / f"window-{context}.bin"
            window.write_bytes(tokens[: 2 * (context + 1)])
            row = run_peer(mode, folder / "model", window, 1)
            return "reason" not in row and row["peak_rss_bytes"] - row["base_rss_bytes"] <= limit

        plans = {}

        def memo_plans(context):
            options.block = "1024"
            (folder / f"tokens-{context}.bin").write_bytes((tokens * (context // 65536 + 1))[: 2 * (context + 1)])
            job = write_job(folder, context, options, options.limit)
            run = subprocess.run([options.memo, "plan", job, "--json"], capture_output=True, text=True)
            if run.returncode == 0:
                plans[context] = json.loads(run.stdout)
            elif run.returncode != INFEASIBLE:
                raise SystemExit(run.stderr)
            return run.returncode == 0

        apart(make_model, folder / "model", 4 * 2**20, options.seed)
        found = {f"Transformers, {mode}": longest(lambda c: peer_works(mode, c), 512, 128) for mode in names(options.peers)}
        found["Memo"] = longest(memo_plans, 65536, options.grain)

    cells = [[who, context, *(f"{found['Memo'] / other:.0f}" for other in [context or 1])] for who, context in found.items()]
    print(markdown(["within " + options.limit, "tokens", "Memo's is so many times longer"], cells))
    plan = plans.get(found["Memo"])
    if plan:
        print(f"\nMemo's plan: {plan['device_peak_bytes'] / 2**20:.0f} MiB, {plan['step_seconds']:.0f} s a step, of which stalls "
              f"{plan['stall_seconds']:.0f} s; {sum(plan['tier_bytes'].values()) / 2**30:.1f} GiB of the disk.")
    if options.output:
        result = {"version": 1, "machine": here, "limit_bytes": limit, "longest": found, "plan": plan}
        options.output.write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
