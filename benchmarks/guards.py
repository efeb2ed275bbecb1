"""What check mode, checksums, encryption and checkpoints cost, in one run: steps of one plan with each, in turns.

    python benchmarks/guards.py --context 4096 --limit 700MiB --rounds 3

The model and tokens of main_job.py, under a limit that makes tensors travel. Prints a Markdown table: seconds of the first
step, of a later one (the median of the times between the ends of two steps, so with what is saved between them; with
check mode every step is checked, with checkpoints one is saved after every step) and of the cores in the whole process,
with their ratios to a run with none of them, and what copies took of a core in the last step. The cores' seconds hold where
other programs run beside. Exits with 1 when losses differ.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from main_job import apart, common_arguments, machine, make_inputs, markdown, write_job

CHECKSUMS = ["--set", 'memory.checksums="disk"']
NOTHING = ["--set", 'memory.checksums="none"']
MODES = {
    "none": ["--check=off", *NOTHING],
    "checksums": ["--check=off", *CHECKSUMS],
    "encryption": ["--check=off", *NOTHING, "--set", "memory.encrypt=true"],
    "check mode": ["--check", *NOTHING],
    "a checkpoint each step": ["--check=off", *NOTHING, "--set", "train.checkpoint_every=1"],
}


def run(options, job, plan, out, flags):
    """(seconds of the first step and between the ends of steps, seconds of cores, summary)"""
    command = [options.memo, "train", job, "--plan", plan, "--out", out, *flags]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, bufsize=1)
    text, ends = [], []
    for line in process.stderr:
        text.append(line)
        if line.startswith("step "):
            ends.append(time.monotonic())
    if process.wait() != 0:
        raise SystemExit("".join(text[-3:]))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cores = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    first = json.loads((out / "metrics.jsonl").read_text().splitlines()[0])["seconds"]
    return [first, *(b - a for a, b in zip(ends, ends[1:]))], cores, json.loads((out / "summary.json").read_text())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--context", type=int, default=4096)
    parser.add_argument("--limit", default="700MiB", help="device limit (default 700MiB)")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    common_arguments(parser)
    options = parser.parse_args()
    here, runs = machine(), {mode: [] for mode in MODES}
    with tempfile.TemporaryDirectory(dir=options.disk, prefix="memo-bench-") as name:
        folder = Path(name)
        apart(make_inputs, folder, [options.context], options.seed)
        job, plan = write_job(folder, options.context, options, options.limit), folder / "plan.json"
        subprocess.run([str(options.memo), "plan", str(job), "-o", str(plan)], check=True, stdout=subprocess.DEVNULL)
        for i in range(options.rounds):
            for mode, flags in MODES.items():
                runs[mode].append(run(options, job, plan, folder / f"{mode}-{i}", flags))
    rows, base = [], None
    for mode, of in runs.items():
        first = statistics.median(steps[0] for steps, *_ in of)
        later = statistics.median(s for steps, *_ in of for s in steps[1:])
        cores = statistics.median(c for _, c, _ in of)
        copying = statistics.median(summary["copy_cpu_seconds"] for *_, summary in of)
        base = base or (first, later, cores)
        moved = (of[0][2]["bytes_out"] + of[0][2]["bytes_in"]) / 1e9
        times = [
            f(x, y) for x, y in zip((first, later, cores), base) for f in (lambda x, _: f"{x:.2f}", lambda x, y: f"{x / y:.3f}")
        ]
        rows.append([mode, *times, f"{moved:.2f}", f"{copying:.2f}"])
    header = [
        "with",
        "first step s",
        "ratio",
        "a later step s",
        "ratio",
        "cores s",
        "ratio",
        "GB copied a step",
        "copies, s of a core",
    ]
    print(markdown(header, rows))
    if options.output:
        options.output.write_text(json.dumps({"version": 1, "machine": here, "runs": runs}, indent=1) + "\n")
    return 0 if len({summary["loss_digest"] for of in runs.values() for *_, summary in of}) == 1 else 1


if __name__ == "__main__":
    sys.exit(main())
