"""The estimator against published measurements: writes docs/validation.md.

    python benchmarks/validate.py

Runs `memo estimate --rows` and compares every row that it models: step time (or tokens per second, or MFU where the
source states how it counts), peak memory, and whether it fits. Rows with an even number in their id were used to set the
constants of `Shares` in memo/estimate/hardware.h; the others were not looked at for that, and are reported apart.
"""

import argparse
import csv
import json
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
UNITS = {"GiB": 1.0, "GB": 1e9 / 2**30}


def number(text):
    return float(text) if text else None


def time_error(row):
    """Predicted over published step time less 1, and what was compared; (None, "") when there is nothing to compare."""
    if not row["pred_step_time_s"]:
        return None, ""
    if step := number(row["step_time_s"]):
        return float(row["pred_step_time_s"]) / step - 1, f"{step:g} s, {row['pred_step_time_s']} s"
    if rate := number(row["tok_s_gpu"]):
        return rate / float(row["pred_tok_s_gpu"]) - 1, f"{rate:g} tok/s, {row['pred_tok_s_gpu']} tok/s"
    counted = row["flop_causal"].split(" ")[0]
    if (mfu := number(row["mfu_pct"])) and counted in ("full", "halved") and row["flop_recompute"].startswith("not"):
        predicted = row["pred_mfu_full_pct" if counted == "full" else "pred_mfu_causal_pct"]
        return mfu / float(predicted) - 1, f"{mfu:g} % MFU, {predicted} %"
    return None, ""


def memory_error(row):
    peak = number(row["mem_peak"])
    if not peak or not row["pred_mem_gib"]:
        return None, ""
    published = peak * UNITS[row["mem_unit"]]
    return float(row["pred_mem_gib"]) / published - 1, f"{published:.1f} GiB, {float(row['pred_mem_gib']):.1f} GiB"


def fit_right(row):
    if not row["pred_fits"]:
        return None
    return (row["pred_fits"] == "yes") == (row["status"] != "oom")


def percent(error):
    return "" if error is None else f"{100 * error:+.1f} %"


def markdown(header, rows):
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "/") for cell in line) + " |" for line in lines) + "\n"


def medians(name, rows):
    times = [abs(row["time"]) for row in rows if row["time"] is not None]
    memories = [abs(row["memory"]) for row in rows if row["memory"] is not None]
    fits = [row["fits"] for row in rows if row["fits"] is not None]
    median = lambda values: f"{100 * statistics.median(values):.1f} % of {len(values)}" if values else ""
    return [
        name,
        len(rows),
        median(times),
        median(memories),
        f"{100 * sum(fits) / len(fits):.0f} % of {len(fits)}" if fits else "",
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--memo", default=ROOT / "build/memo")
    parser.add_argument(
        "--rows", default=ROOT / "benchmarks/published/train.csv", type=Path, help="CSV of published measurements"
    )
    parser.add_argument("--predicted", type=Path, help="what `memo estimate --rows` made of them; made when absent")
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "docs/validation.md")
    parser.add_argument("--even-only", action="store_true", help="look at the calibrating half alone, on the terminal")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        predicted = options.predicted or Path(folder) / "predicted.csv"
        if not options.predicted:
            subprocess.run([options.memo, "estimate", "--rows", options.rows, "-o", predicted], check=True)
        rows = list(csv.DictReader(predicted.open()))
    for row in rows:
        row["time"], row["times"] = time_error(row)
        row["memory"], row["memories"] = memory_error(row)
        row["fits"] = fit_right(row)
        row["even"] = int(re.sub(r"\D", "", row["id"])) % 2 == 0
    modelled = [row for row in rows if row["pred_step_time_s"] or row["pred_fits"]]
    compared = [row for row in modelled if row["time"] is not None or row["memory"] is not None or row["fits"] is not None]
    if options.even_only:
        compared = [row for row in compared if row["even"]]

    header = ["", "rows", "step time", "memory", "fits or not, right"]
    halves = [
        medians("calibration", [r for r in compared if r["even"]]),
        medians("held out", [r for r in compared if not r["even"]]),
    ]
    sources = [
        medians(key, [r for r in compared if r["source_key"] == key]) for key in dict.fromkeys(r["source_key"] for r in compared)
    ]
    all_rows = [
        [r["id"], r["source_key"], r["model"], r["gpu"], r["n_gpus"], r["seq_len"], r["times"], percent(r["time"]), r["memories"],
         percent(r["memory"]), "" if r["fits"] is None else f"{r['pred_fits']}{'' if r['fits'] else ', wrong'}", r["note"][:90]]
        for r in compared
    ]
    columns = [
        "id",
        "source",
        "model",
        "GPU",
        "GPUs",
        "tokens",
        "published, predicted",
        "error",
        "memory published, predicted",
        "error",
        "fits",
        "note",
    ]
    if options.even_only:
        print(markdown(header, [*halves[:1], *sources]), markdown(columns, all_rows))
        return 0
    unmodelled = {}
    for row in rows:
        if row not in modelled:
            unmodelled.setdefault((row["source_key"], row["note"]), []).append(row["id"])
    text = f"""# Validation

`make validate` predicts published measurements with `memo estimate --rows` and writes this page. Of {len(rows)} rows
{len(modelled)} are modelled; the others are listed below with the reason. Error: predicted over published, less 1; of a rate,
of the time that it means. Medians are of absolute errors.

The few constants that no data sheet tells (`Shares` in `memo/estimate/hardware.h`, and what the allocator reserves beyond in `estimate.cpp`)
were set on the rows with even numbers; the others are held out. There is no constant for a row, a source or a GPU; how a
system runs a layer (fused, or module by module) is said of the system.

{markdown(header, halves)}
By source, both halves:

{markdown(header, sources)}
## Every row

{markdown(columns, all_rows)}
## Not modelled

{markdown(["source", "rows", "reason"], [[key, len(ids), note] for (key, note), ids in unmodelled.items()])}"""  # noqa: E501
    options.output.write_text(text)
    print(json.dumps({"rows": len(rows), "modelled": len(modelled), "held_out": halves[1]}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
