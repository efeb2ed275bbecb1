"""Tables of the rows that `make gpu` wrote, predicted beside measured: python report.py RESULTS [-o docs/gpu.md]."""

import argparse
import sys
from pathlib import Path

from call import read_rows

GOALS = {
    "streams": "tests of the CUDA backend on NVIDIA's runtime",
    "kernels": "every kernel against the CPU's, and under compute-sanitizer",
    "plugin": "the Python package's tests on the device",
    "attention": "seconds and TFLOP/s of attention's kernels",
    "copies": "bytes a second; `compute_slowdown` is a product's time beside copies of both directions over its time alone",
    "bits": "no departures from the plan; the same bits for every strategy where attention is deterministic, else close losses",
    "overlap": "a step under a limit within 1.01 of `resident`",
    "8B": "memory predicted within 2 %, time within 10 %",
    "longest": "steps predicted to take at most 6 minutes; memory predicted within 2 %, time within 10 %",
    "peers": "`memo_to_peer` at most 0.77, contexts at least twice as long, the same loss",
}
UNSHOWN = {"device", "call", "sources", "took", "loss_digest", "grad_digest", "kernel"}
NOTHING = """# On a GPU

Nothing has run on a GPU yet. `make gpu` measures there ([CONTRIBUTING.md](../CONTRIBUTING.md)), and `benchmarks/gpu/report.py`
makes this page of what it wrote.
"""


def pairs(row):
    """The values of a row: a measured one, its prediction beside it, and how far the two are apart."""
    shown = {}
    for key, value in row.items():
        if key in UNSHOWN or key.endswith("_predicted") and key.removesuffix("_predicted") in row:
            continue
        shown[key.replace("_predicted", " predicted")] = value
        predicted = row.get(key + "_predicted")
        if predicted is not None:
            shown[key + " predicted"] = predicted
            if isinstance(value, (int, float)) and predicted and key in ("step_seconds", "device_peak_bytes"):
                shown[key + " apart"] = f"{100 * (value / predicted - 1):+.1f} %"
    return shown


def show(key, value):
    if value is None:
        return ""
    if isinstance(value, dict):
        return ", ".join(f"{name} {item}" for name, item in value.items())
    if "bytes" in key and isinstance(value, (int, float)):
        if "per_second" in key:
            return f"{value / 1e9:.2f} GB/s"
        return f"{value / (1 << 30):.3f} GiB" if value >= 1 << 24 else f"{value / (1 << 20):.2f} MiB"
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value).replace("|", "\\|").replace("\n", " ")


def table(rows):
    rows = [pairs(row) for row in rows]
    keys = list(dict.fromkeys(key for row in rows for key in row))
    keys.sort(key=lambda key: key in ("error", "left", "first_departure"))  # words last
    lines = ["| " + " | ".join(key.replace("_", " ") for key in keys) + " |", "|" + " --- |" * len(keys)]
    return [*lines, *("| " + " | ".join(show(key, row.get(key)) for key in keys) + " |" for row in rows)]


def text(results):
    found = {part: read_rows(results / f"{part}.jsonl") for part in GOALS}
    found = {part: list({row["row"]: row for row in rows}.values()) for part, rows in found.items() if rows}
    if not found:
        return NOTHING
    devices = sorted({row["device"] for rows in found.values() for row in rows})
    about = "By `make gpu`; `benchmarks/gpu/report.py` made this page. Each table has its goal above. Predictions are "
    lines = [f"# On a GPU: {', '.join(devices)}", "", about + "those of the plan, before the first step."]
    for part, rows in found.items():
        lines += ["", f"## {part}", "", GOALS[part][0].upper() + GOALS[part][1:] + ".", "", *table(rows)]
    return "\n".join(lines) + "\n"


def write(results, file):
    file.write_text(text(results))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path)
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()
    if options.output:
        write(options.results, options.output)
    else:
        sys.stdout.write(text(options.results))


if __name__ == "__main__":
    main()
