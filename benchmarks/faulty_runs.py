"""Random faults of the disk under whole runs: `memo train --faults`, and what becomes of each run.

    python benchmarks/faulty_runs.py --runs 30

Runs of each kind of fault take turns on two jobs: one under the least limit, so that everything travels and no plan does without
the disk, and one that could do without. Every process ends by itself; one that stops is resumed without faults. A Markdown table
of outcomes. Exits with 1 when a run hangs, ends in another way than it should, or ends in other bits than a run without faults.
"""

import argparse
import collections
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from main_job import markdown
from soak import DIGESTS, JOBS, ROOT, Job, checkpoints, files_of

KINDS = "disk full", "I/O error", "torn write", "lost write", "short read", "flipped bit", "stall"
OUTCOMES = "nothing told", "steps played again", "went on without the disk", "named error", "named stall", "hang", "wrong"
JOBS["could do without"] = ({}, {}, False, ["offload"])


def train(job, out, *flags):
    plan = next(iter(job.plans.values()))
    return job.memo("train", job.file, "--plan", plan, "--out", out, "--json", "--set", "memory.watchdog=2", *job.limit, *flags)


def outcome(run):
    """Of a process with faults, by what it said."""
    if run.returncode == 0:
        return OUTCOMES[2 if "degraded" in run.stderr else 1 if "is played again" in run.stderr else 0]
    last = run.stderr.splitlines()[-1]
    if run.returncode != 5 or not last.startswith("memo: ") or "disk tier" not in last:
        return "wrong"
    return "named stall" if "nothing has moved" in last else "named error"


def bits(run):
    summary = json.loads(run.stdout)
    return {key: summary[key] for key in DIGESTS}


def one(job, out, faults):
    try:
        run = train(job, out, "--faults", faults)
        what = outcome(run)
        if any(files_of(path) != job.checkpoints[step] for step, path in checkpoints(out)):
            return "wrong"
        if run.returncode != 0:
            run = train(job, out, "--resume")
        return what if run.returncode == 0 and bits(run) == job.ending else "wrong"
    except subprocess.TimeoutExpired:
        return "hang"


class BoundedJob(Job):
    def memo(self, *arguments):
        return subprocess.run(
            [str(self.options.memo), *map(str, arguments)], capture_output=True, text=True, env=self.options.env, timeout=120
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=30, help="of each kind of fault (default 30)")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--memo", type=Path, default=ROOT / "build/memo")
    parser.add_argument("--disk", type=Path, default=Path("/var/tmp"), help="where a folder is made for all (default /var/tmp)")
    options = parser.parse_args()
    options.env = dict(os.environ, OMP_NUM_THREADS="1")
    chance = random.Random(options.seed)
    counts = {kind: collections.Counter() for kind in KINDS}
    with tempfile.TemporaryDirectory(dir=options.disk, prefix="memo-faults-") as name:
        options.disk = Path(name)
        jobs = [BoundedJob(options, Path(name) / str(i), job) for i, job in enumerate(["paged, bfloat16", "could do without"])]
        for number in range(options.runs):
            for kind in KINDS:
                out, rate = Path(name) / "run", 10 ** chance.uniform(-3.5, -1)
                what = one(jobs[number % 2], out, f"{chance.randrange(1 << 30)}:{rate:.6f}:{kind}")
                counts[kind][what] += 1
                if what in ("hang", "wrong"):
                    print(f"{kind}, rate {rate:.6f}: {what}", file=sys.stderr)
                shutil.rmtree(out)
    print(
        markdown(
            ["fault", "runs", *OUTCOMES], [[kind, options.runs, *(counts[kind][what] for what in OUTCOMES)] for kind in KINDS]
        )
    )
    return 1 if any(counts[kind]["hang"] + counts[kind]["wrong"] for kind in KINDS) else 0


if __name__ == "__main__":
    sys.exit(main())
