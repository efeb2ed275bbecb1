"""What a long run holds, over its steps: resident memory, files that are open, bytes on the disk.

    python benchmarks/steady.py --steps 500

Trains a small model by `offload`, with a checkpoint every 25 steps, and looks at the process at each line of a step. Prints a
Markdown table of the steps asked for, and fails when memory, files or disk grew after the first tenth of the steps: files by
any, memory by more than 2 %.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
JOB = """seed = 1
[model]
family = "llama"
hidden = 64
layers = 4
heads = 4
kv_heads = 2
ffn = 128
vocab = 256
[data]
files = ["{text}"]
[train]
context = 512
block = 128
steps = {steps}
checkpoint_every = 25
[memory]
disk = "{disk}"
disk_limit = "16MiB"
"""


def look(pid, run):
    """Bytes resident, files open, bytes of files that have no name, bytes of the run's folder."""
    status = Path(f"/proc/{pid}/status").read_text()
    resident = next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS:"))
    files, nameless = 0, 0
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            stat = entry.stat()
        except FileNotFoundError:
            continue
        files += 1
        nameless += stat.st_blocks * 512 if stat.st_nlink == 0 else 0
    named = sum(file.stat().st_blocks * 512 for file in run.glob("checkpoint-*/*") if file.exists())
    return resident, files, nameless, named


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--memo", default=str(ROOT / "build/memo"))
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--disk", default="/var/tmp")
    options = parser.parse_args()
    seen = {}
    with tempfile.TemporaryDirectory(dir=options.disk, prefix="memo-steady-") as name:
        folder = Path(name)
        (folder / "job.toml").write_text(JOB.format(text=ROOT / "examples/text/kjv.txt", steps=options.steps, disk=folder))
        command = [options.memo, "train", folder / "job.toml", "--out", folder / "run", "--strategy", "offload"]
        process = subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        last = []
        for line in process.stderr:
            last = [*last[-3:], line]
            if line.startswith("step ") and "/" in line.split()[1]:
                step = int(line.split()[1].split("/")[0])
                if step < options.steps:
                    seen[step] = look(process.pid, folder / "run")
        if process.wait() != 0:
            sys.exit("".join(last))
    print("| step | resident MB | open files | MB of the tier | MB of checkpoints |\n| --- | --- | --- | --- | --- |")
    shown = [1, *(options.steps * tenth // 10 for tenth in (1, 3, 5, 7)), options.steps - 1]
    for step in shown:
        resident, files, nameless, named = seen[step]
        print(f"| {step} | {resident / 1e6:.1f} | {files} | {nameless / 1e6:.1f} | {named / 1e6:.1f} |")
    # A checkpoint is written by times; what counts is the most of some steps.
    some = options.steps // 10
    early = [max(seen[step][k] for step in range(some, 2 * some)) for k in range(4)]
    late = [max(seen[step][k] for step in range(options.steps - some, options.steps)) for k in range(4)]
    if late[0] > 1.02 * early[0] or any(late[k] > early[k] for k in (1, 2, 3)):
        sys.exit(f"it grew: {early} -> {late}")


if __name__ == "__main__":
    main()
