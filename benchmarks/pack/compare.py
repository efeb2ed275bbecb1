"""Memo's packer against MiniMalloc and the allocators of the PyPI package omnimalloc, on one thread each, in one run.

    python benchmarks/pack/compare.py --minimalloc PATH --challenging FOLDER     (pip install omnimalloc beforehand)

Prints Markdown tables: MiniMalloc's instances A to K decided at their capacity (medians of Memo's seeds), the same
minimised, and traces of training minimised, with what PyTorch's caching allocator would reserve for the same requests.
Peers that are not there are left out. A peer that does not stop at the time limit is stopped at three times of it: "-".
"""

import argparse
import csv
import io
import multiprocessing
import re
import statistics
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PEERS = ["supermalloc", "telamalloc", "tabu_search", "simulated_annealing", "omni", "greedy_by_all", "best_fit"]


def memo(options, files, *arguments):
    command = [options.bench, *arguments, *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return list(csv.DictReader(io.StringIO(done.stdout)))


def minimalloc(options, file, capacity, limit, *more):
    """(peak or None, seconds)"""
    command = [options.minimalloc, f"--input={file}", f"--capacity={capacity}", f"--timeout={limit}s", "--validate"]
    done = subprocess.run([*command, "--output=/dev/null", *more], capture_output=True, text=True)
    seconds = float(re.search(r"Elapsed time ([0-9.]+)s", done.stderr)[1])
    peak = re.search(r"Validation PASS, height ([0-9]+)", done.stderr)
    return int(peak[1]) if peak else None, seconds


def pack_by(name, buffers, limit, sender):
    import inspect

    import omnimalloc
    from omnimalloc.allocators.base import BaseAllocator

    omnimalloc.set_max_threads(1)
    allocations = [omnimalloc.Allocation(i, size, lower, upper) for i, (lower, upper, size) in enumerate(buffers)]
    kind = type(BaseAllocator.resolve(name))
    given = {"timeout": limit, "num_threads": 1, "max_iterations": 10**9, "max_backtracks": 10**9}
    takes = inspect.signature(kind.__init__).parameters
    allocator = kind(**{key: value for key, value in given.items() if key in takes})
    begin = time.perf_counter()
    placed = omnimalloc.allocate(allocations, allocator)
    seconds = time.perf_counter() - begin
    omnimalloc.validate_allocation(placed)
    sender.send((max(a.offset + a.size for a in placed), seconds))


def omnimalloc_peer(name, file, limit):
    """(peak or None, seconds)"""
    with open(file) as lines:
        buffers = [(int(r["lower"]), int(r["upper"]), int(r["size"])) for r in csv.DictReader(lines)]
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=pack_by, args=(name, buffers, limit, sender))
    process.start()
    answer = receiver.recv() if receiver.poll(3 * limit + 5) else (None, 3 * limit)
    process.kill()
    process.join()
    return answer


def over(peak, bound):
    if peak is None:
        return "-"
    return "0" if peak == bound else f"+{100 * (peak - bound) / bound:.2f} %"


def cell(answer, bound):
    peak, seconds = answer
    return "-" if peak is None else f"{over(peak, bound)} ({seconds:.2f} s)"


def row(*cells):
    print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def header(*cells):
    row(*cells)
    row(*["---"] * len(cells))


def decide(options, files):
    print(f"\nDecided at the capacity of their names, s; Memo: median of {options.seeds} seeds (slowest)\n")
    header("", "Memo", *(["MiniMalloc"] if options.minimalloc else []))
    sums = [0.0, 0.0]
    for file in files:
        capacity = file.stem.split(".")[1]
        ours = memo(options, [file], "--capacity", capacity, "--seeds", str(options.seeds))
        assert all(int(r["peak"]) <= int(capacity) for r in ours if r["status"] == "optimal")
        times = [float(r["seconds"]) if r["status"] == "optimal" else float("inf") for r in ours]
        sums[0] += statistics.median(times)
        cells = [file.stem.split(".")[0], f"{statistics.median(times):.3f} ({max(times):.3f})"]
        if options.minimalloc:
            peak, seconds = minimalloc(options, file, capacity, 60)
            sums[1] += seconds
            cells.append(f"{seconds:.2f}" if peak else "-")
        row(*cells)
    row("sum", f"{sums[0]:.2f}", *([f"{sums[1]:.2f}"] if options.minimalloc else []))


def minimise(options, title, files, limit, peers, reserved):
    print(f"\n{title}, {limit} s each: the peak over the proved bound (seconds)\n")
    more = ["live bytes / reserved by a caching allocator", "peak / reserved"] if reserved else []
    header("", "buffers", "bound", "Memo", *(["MiniMalloc"] if options.minimalloc else []), *peers, *more)
    for file in files:
        ours = memo(options, [file], "--time-limit", str(limit))[0]
        bound, peak = int(ours["lower_bound"]), int(ours["peak"])
        cells = [file.stem.split(".")[0], ours["buffers"], bound, cell((peak, float(ours["seconds"])), bound)]
        if options.minimalloc:  # it wants a capacity that is enough: the name's, or half as much again as the bound
            capacity = file.stem.split(".")[1] if "." in file.stem else bound * 3 // 2
            cells.append(cell(minimalloc(options, file, capacity, limit, "--minimize_capacity"), bound))
        cells += [cell(omnimalloc_peer(name, file, limit), bound) for name in peers]
        if reserved:
            bytes_reserved = int(ours["caching_allocator_reserved"])
            live = int(ours["live_bytes"])
            cells += [f"{live / bytes_reserved:.3f}", f"{peak / bytes_reserved:.3f}"]
        row(*cells)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench", default=ROOT / "build/benchmarks/bench_pack")
    parser.add_argument("--minimalloc", help="its program, built from google/minimalloc")
    parser.add_argument("--challenging", type=Path, help="folder of A to K (default: those among the test data)")
    parser.add_argument("--traces", type=Path, default=ROOT / "tests/data/dsa", help="folder of traces")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--limit", type=float, default=60, help="s, of A to K minimised")
    parser.add_argument("--trace-limit", type=float, default=10, help="s, of traces")
    parser.add_argument("--peers", default=",".join(PEERS), help="allocators of omnimalloc")
    options = parser.parse_args()
    peers = [p for p in options.peers.split(",") if p]
    challenging = sorted((options.challenging or options.traces).glob("[A-K].*.csv"))
    traces = sorted(f for f in options.traces.glob("*.csv") if "." not in f.stem)
    decide(options, challenging)
    minimise(options, "A to K minimised", challenging, options.limit, peers, reserved=False)
    minimise(options, "Traces of training", traces, options.trace_limit, peers, reserved=True)


if __name__ == "__main__":
    main()
