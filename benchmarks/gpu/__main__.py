"""What `make gpu` runs on a machine with a GPU once all is built, part by part, and in calls that go on where the last one
stopped.

    python benchmarks/gpu --results gpu-results --name "$(nvidia-smi ...)" [--parts bits,peers] [--minutes 9]

Rows go to RESULTS/<part>.jsonl as they come; a row that is there is not measured again (call.py). Exits with 0 when all is
measured, and with 4 when the call's time was over first: call it again. --small takes models and contexts of a few layers and
tokens, to try every part within a minute; --emulated takes the emulated device's programs of the build too, on a machine
without a GPU.
"""

import argparse
import hashlib
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import attention
import bits
import copies
import longest
import overlap
import peers
import programs
import report
from call import Call, CallIsOver
from memo_runs import ROOT, MemoRuns

PARTS = {
    "streams": programs.streams,
    "kernels": programs.kernels,
    "plugin": programs.plugin,
    "attention": attention.attention,
    "copies": copies.copies,
    "bits": bits.bits,
    "overlap": overlap.overlap,
    "8B": overlap.eight_billion,
    "longest": longest.longest,
    "peers": peers.peers,
}
NOT_DONE = 4


def host_memory():
    """Three quarters of the machine's."""
    return f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') * 3 // 4 >> 20}MiB"


def programs_of(options):
    """Adds to the options where the programs are: tests, the Python package, and what Python is given first."""
    built = options.built
    if options.emulated:
        options.memo = options.memo or built / "tests/memo_emulated"
        options.tests = {"cuda": built / "tests/test_cuda", "rows": built / "tests/test_gpu",
                         "kernels": built / "tests/test_kernels_emulated"}
        options.package = built / "python_emulated"
    else:
        options.memo = options.memo or built / "memo"
        options.tests = {"cuda": built / "tests/test_cuda_gpu", "rows": built / "tests/test_gpu",
                         "kernels": built / "tests/test_kernels_gpu"}
        options.package = built / "python"
    # What Python is started with, to have the emulated device as torch.cuda.
    options.python_first = [Path(__file__).parent / "on_emulated.py"] if options.emulated else []
    # Peers ask more of torch.cuda than the emulated device has: a rehearsal has them on the CPU.
    options.peer_device = "cpu" if options.emulated else "cuda"
    return options


def measure(part, call, runs):
    """A fault between a part's rows does not keep the parts after it from being measured."""
    try:
        PARTS[part](call, runs)
    except (KeyError, TypeError, ValueError, AttributeError, OSError) as fault:
        print(f"{part}: {type(fault).__name__}: {fault}; its rows after this are left out", file=sys.stderr, flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=ROOT / "gpu-results", help="folder of the rows")
    parser.add_argument("--name", default="GPU", help="of the device, as nvidia-smi has it")
    parser.add_argument("--sources", default="unknown", help="a digest of what was built")
    parser.add_argument("--parts", default=",".join(PARTS), help="comma-separated, in this order")
    parser.add_argument("--minutes", type=float, default=9, help="of this call in all (default 9)")
    parser.add_argument("--built", type=Path, default=ROOT / "build", help="build folder")
    parser.add_argument("--memo", type=Path, help="the command, if another")
    parser.add_argument("--device-limit", help="default: Memo's, what the GPU has free less a reserve")
    parser.add_argument("--host-limit", default=host_memory(), help="pinned host memory (default: three quarters)")
    parser.add_argument("--small", action="store_true", help="tiny models, to try the parts")
    parser.add_argument("--emulated", action="store_true", help="on the emulated device, with tiny models")
    options = parser.parse_args()
    wrong = [part for part in options.parts.split(",") if part not in PARTS]
    if wrong:
        parser.error(f"no part '{wrong[0]}'; parts are {', '.join(PARTS)}")
    options.small |= options.emulated
    if options.emulated:
        options.device_limit, options.host_limit = "64MiB", "64MiB"
    programs_of(options)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that folders are removed
    # One name for a folder of results, so that a call finds what a killed one left, and removes it.
    work = Path(tempfile.gettempdir()) / f"memo-gpu-{hashlib.sha256(bytes(options.results.resolve())).hexdigest()[:12]}"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    try:
        call = Call(options.results, options.name, options.sources, options.minutes, most=60 if options.small else 600)
        runs = MemoRuns(call, options, work)
        over = None
        try:
            for part in options.parts.split(","):
                measure(part, call, runs)
        except CallIsOver as reason:
            over = reason
        report.write(options.results, options.results / "report.md")
        print(f"{call.fresh} rows in this call; {options.results / 'report.md'}")
        if over:
            print(f"to go on, call it again: {over}", file=sys.stderr)
            sys.exit(NOT_DONE)
    finally:
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
