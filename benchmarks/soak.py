"""Random kills: `memo train` is killed (SIGKILL) at random moments and resumed, again and again, each time to the bit.

    python benchmarks/soak.py --minutes 30 --least 200        (make soak; make soak-short: 3 minutes)

Jobs take turns: all in memory, all on the disk under the least limit (bfloat16), two sequences a step; a resumed run may
go on by another strategy. Of each job an uninterrupted run keeps every checkpoint. After each kill every checkpoint in the
folder is compared with the one of that step there, every byte; a finished run's losses and gradients too. Lost: the
newest checkpoint is older than one before the kill, or older by more than two steps than the last step told (the next
checkpoint waits for the one before). Exits with 1 when anything was lost or differs.
"""

import argparse
import collections
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
DIGESTS = "loss_digest", "grad_digest", "steps"
MODEL = dict(family="llama", hidden=64, layers=3, heads=4, kv_heads=2, ffn=128, vocab=256)
TRAIN = dict(context=512, block=64, lr=1e-3, checkpoint_every=1)
JOBS = {  # model, train, under the least limit, strategies of one plan's numbers
    "resident": ({}, {}, False, ["memo", "resident", "offload"]),
    "paged, bfloat16": ({"dtype": "bfloat16"}, {}, True, ["memo"]),
    "two sequences a step": ({}, {"batch": 2}, False, ["memo", "recompute"]),
}


class Job:
    """A job's file, its plans, and the checkpoints of a run that was left alone."""

    def __init__(self, options, folder, name):
        self.name, self.folder, self.options = name, folder, options
        model, train, self.least, self.strategies = JOBS[name]
        folder.mkdir()
        (folder / "book.txt").write_bytes((ROOT / "examples/text/kjv.txt").read_bytes()[:20_000])
        tables = {
            "model": MODEL | model,
            "data": {"files": ["book.txt"]},
            "train": TRAIN | train | {"steps": options.steps},
            "memory": {"disk": str(options.disk), "disk_limit": "64MiB"},
        }
        self.file = folder / "job.toml"
        self.file.write_text(
            "seed = 1\n"
            + "".join(f"[{t}]\n" + "".join(f"{k} = {json.dumps(v)}\n" for k, v in keys.items()) for t, keys in tables.items())
        )
        self.limit = []
        if self.least:
            refused = self.memo("plan", self.file, "--set", 'memory.device_limit="64KiB"')
            least = re.search(r"\((\d+) bytes\)", refused.stderr)[1]
            self.limit = ["--set", f'memory.device_limit="{least}"']
        self.plans = {}
        for strategy in self.strategies:
            self.plans[strategy] = folder / f"{strategy}.json"
            self.done(self.memo("plan", self.file, "--strategy", strategy, "-o", self.plans[strategy], *self.limit))
        alone = folder / "alone"
        keep = "--set", "train.keep_checkpoints=0"
        run = self.done(self.memo("train", self.file, "--plan", self.plans[self.strategies[0]], "--out", alone, "--json", *keep))
        self.ending = {key: json.loads(run.stdout)[key] for key in DIGESTS}
        self.checkpoints = {step: files_of(path) for step, path in checkpoints(alone)}
        assert sorted(self.checkpoints) == list(range(1, options.steps + 1))
        shutil.rmtree(alone)

    def memo(self, *arguments):
        return subprocess.run(
            [str(self.options.memo), *map(str, arguments)], capture_output=True, text=True, env=self.options.env
        )

    def done(self, run):
        if run.returncode != 0:
            raise SystemExit(f"{run.args}: exit code {run.returncode}: {run.stderr}")
        return run

    def start(self, out, strategy):
        command = [self.options.memo, "train", self.file, "--plan", self.plans[strategy], "--out", out, "--resume"]
        return subprocess.Popen(
            list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=self.options.env
        )


def checkpoints(run):
    """(step, folder) of those that have their name."""
    for path in run.glob("checkpoint-*"):
        yield int(path.name.split("-")[1]), path


def files_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def told(text):
    """The last step of which a process told."""
    return max((int(step) for step in re.findall(r"^step (\d+)/", text, re.M)), default=0)


class Soak:
    def __init__(self, options):
        self.options, self.random = options, random.Random(options.seed)
        self.counts, self.wrong = collections.Counter(), []

    def one_run(self, job, out, deadline):
        """From nothing to the last step, or to the deadline, killed all the way."""
        newest = 0
        while time.monotonic() < deadline:
            process = job.start(out, self.random.choice(job.strategies))
            # Between the start of the process and some steps on, so that kills meet loading, steps and saving.
            moment = time.monotonic() + self.random.uniform(0, self.options.longest)
            try:
                _, text = process.communicate(timeout=max(0, moment - time.monotonic()))
                killed = False
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                _, text = process.communicate()
                killed = process.returncode == -signal.SIGKILL
            step = told(text)
            newest = self.look(job, out, newest, step)
            if killed:
                self.counts["kills"] += 1
                self.counts[f"kills, {job.name}"] += 1
                self.counts["kills while something was saved"] += any(out.glob(".checkpoint-*"))
                self.counts["kills before the first step of a process"] += step == 0
                continue
            if process.returncode != 0 and "has done all" not in text:
                self.wrong.append(f"{job.name}: exit code {process.returncode}: {text[-300:]}")
                return
            if process.returncode == 0:
                summary = json.loads((out / "summary.json").read_text())
                if {key: summary[key] for key in DIGESTS} != job.ending:
                    self.wrong.append(f"{job.name}: the finished run differs")
            self.counts["finished runs"] += 1
            return

    def look(self, job, out, newest, step):
        """Every checkpoint against the uninterrupted run's; the newest step."""
        found = dict(checkpoints(out)) if out.exists() else {}
        for at, folder in found.items():
            self.counts["checkpoints compared"] += 1
            if files_of(folder) != job.checkpoints[at]:
                self.wrong.append(f"{job.name}: checkpoint {at} differs")
        last = max(found, default=0)
        if last < max(newest, step - 2):
            self.counts["lost"] += 1
            self.wrong.append(f"{job.name}: checkpoint {last} is the newest, after {newest} and step {step}")
        self.counts["resumed from a checkpoint"] += newest > 0
        return last

    def go(self, folder):
        jobs = [Job(self.options, folder / str(i), name) for i, name in enumerate(JOBS)]
        begin = time.monotonic()
        deadline = begin + 60 * self.options.minutes
        number = 0
        while time.monotonic() < deadline and not self.wrong:
            out = folder / f"run-{number}"
            self.one_run(jobs[number % len(jobs)], out, deadline)
            shutil.rmtree(out, ignore_errors=True)
            number += 1
        print(f"{(time.monotonic() - begin) / 60:.1f} minutes")
        for name, count in sorted(self.counts.items()):
            print(f"{name}: {count}")
        print(f"lost: {self.counts['lost']}, different or wrong: {len(self.wrong)}")
        if self.counts["kills"] < self.options.least:
            self.wrong.append(f"{self.counts['kills']} kills, {self.options.least} were to be")
        if list(self.options.disk.iterdir()) != [folder]:
            self.wrong.append(f"{self.options.disk} is not as it was")
        print("\n".join(self.wrong))
        return 1 if self.wrong else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--least", type=int, default=0, help="kills, below which the run is a failure")
    parser.add_argument("--steps", type=int, default=30, help="of a run that is killed until it has done them (default 30)")
    parser.add_argument("--longest", type=float, default=2.5, help="seconds until a kill, at most (default 2.5)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--memo", type=Path, default=ROOT / "build/memo")
    parser.add_argument("--disk", type=Path, default=Path("/var/tmp"), help="where a folder is made for all (default /var/tmp)")
    options = parser.parse_args()
    options.env = dict(os.environ, OMP_NUM_THREADS="1")
    with tempfile.TemporaryDirectory(dir=options.disk, prefix="memo-soak-") as name:
        options.disk = Path(name)
        folder = options.disk / "runs"
        folder.mkdir()
        sys.exit(Soak(options).go(folder))


if __name__ == "__main__":
    main()
