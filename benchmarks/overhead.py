"""What the executor's own work costs in a step: hooks, queues, looking up the plan.

    python benchmarks/overhead.py --context 8192 --rounds 3
    python benchmarks/overhead.py --emulated

A model with next to no arithmetic (hidden 64, blocks of 16 tokens) trains: its step over its calls is an upper bound on what a
call costs besides its arithmetic. Held against a step of main_job.py's model, with as many calls as its plan has. Tensors that
small are not copied, so the work of copies is not in it: summary.json has that as copy_cpu_seconds, which the table gives of the
main job as a share of a core. Prints a Markdown table of both. With --emulated: the command and the plug-in in front of an
emulated GPU (host_work.py).
"""

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import host_work
import paged
from main_job import apart, common_arguments, machine, make_inputs, markdown, run_memo, write_job


def figures(options, job, run):
    """Calls and copies of a step, and seconds of the steps after the first."""
    row = run_memo(options.memo, options.strategy, job, run)
    if "reason" in row:
        raise SystemExit(row["reason"])
    program = json.loads((run / "plan.json").read_text())["program"]
    count = lambda table: len(program[table]["rows"] if isinstance(program[table], dict) else program[table])
    seconds = statistics.median(row["step_seconds"][1:])
    copying = row["summary"]["copy_cpu_seconds"] / seconds
    return {"calls": count("calls"), "copies": count("copies"), "seconds": seconds, "copying": copying}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--context", type=int, default=8192)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--strategy", default="offload", help="of memo train (default offload)")
    parser.add_argument("--emulated", action="store_true", help="in front of an emulated GPU instead")
    common_arguments(parser)
    options = parser.parse_args()
    if options.emulated:
        with tempfile.TemporaryDirectory(dir=options.disk, prefix="memo-bench-") as name:
            print(markdown(["host", "calls a step", "launches a call", "us a call", "beyond plain layers", "waits a step"],
                           host_work.table(Path(name))))
        return 0
    here, tiny, real = machine(), [], []
    with tempfile.TemporaryDirectory(dir=options.disk, prefix="memo-bench-") as name:
        folder = Path(name)
        apart(make_inputs, folder, [options.context], options.seed)
        (folder / "tiny").mkdir()
        shape = {"layers": 8, "hidden": 64, "context": 1024, "block": 16, "steps": 8}
        tiny_job = paged.write_job(folder / "tiny", SimpleNamespace(**vars(options) | shape), "0")
        real_job = write_job(folder, options.context, options, "0")
        for i in range(options.rounds):
            tiny.append(figures(options, tiny_job, folder / f"tiny-{i}"))
            real.append(figures(options, real_job, folder / f"real-{i}"))
    rows, per_call = [], None
    for who, of in (("hidden 64, blocks of 16", tiny), ("main job", real)):
        seconds, calls = statistics.median(f["seconds"] for f in of), of[0]["calls"]
        per_call = per_call or seconds / calls
        share = f"{100 * calls * per_call / seconds:.2f} %" if of is real else "-"
        copying = f"{100 * statistics.median(f['copying'] for f in of):.2f} %"
        rows.append([who, calls, of[0]["copies"], f"{seconds:.3f}", f"{1e6 * seconds / calls:.0f}", share, copying])
    print(markdown(["model", "calls", "copies", "step s", "us a call", "executor's share, at most", "copies, of a core"], rows))
    if options.output:
        options.output.write_text(json.dumps({"version": 1, "machine": here, "tiny": tiny, "main": real}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
