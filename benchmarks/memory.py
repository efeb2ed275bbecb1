"""Memory over contexts: predicted and measured peaks of every strategy, and of Transformers.

    python benchmarks/memory.py --contexts 4096,8192,16384,32768,65536 --measured 8192 --plot memory.svg

The model of main_job.py. Every strategy plans without a limit; `memo, least` under the smallest limit that works for it.
Up to --measured tokens one step is run by each plan, and up to --peers-measured by Transformers; --add takes more of
them from an earlier run's -o, and Transformers' from main_job.py's. With --documents N the tokens are documents of N,
which attention does not cross: steps are shorter, and as large. Figures are megabytes over what the process
holds before it has a model (of predictions: the arena). The slope is that of predictions between the last two contexts,
in bytes a token. Prints a Markdown table; exits with 1 where a measured device peak is over the predicted one.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from main_job import INFEASIBLE, apart, common_arguments, machine, make_inputs, markdown, names, run_measured, run_peer, write_job

STRATEGIES = ["resident", "recompute", "offload", "memo-alpha", "memo, least"]
PEERS = ["plain", "checkpointing"]
COLOURS = ["#5b6472", "#b6641f", "#2b7fa8", "#7a4fa3", "#1c8a5a", "#c0392b", "#d98880"]


def apart_documents(job, tokens, each):
    """The job's window as documents of `each` tokens, a file each."""
    window, files = tokens.read_bytes(), []
    starts = range(0, len(window) // 2 - 1, each)
    for i, start in enumerate(starts):
        files.append(tokens.with_name(f"{tokens.stem}-{i}.bin"))
        files[-1].write_bytes(window[2 * start : None if i + 1 == len(starts) else 2 * (start + each)])
    listed = json.dumps([file.name for file in files])
    text = job.read_text().replace(f'files = ["{tokens.name}"]', f'documents = "apart"\nfiles = {listed}')
    job.write_text(text)


def added(files):
    """Rows of an earlier run, and of Transformers' peaks from what main_job.py wrote."""
    all_rows = [row for file in files for row in json.loads(file.read_text())["rows"]]
    rows = [row for row in all_rows if "peak_over_base_bytes" in row]
    return [row for row in all_rows if "over_base" in row or "predicted" in row] + [
        {
            "who": row["who"].replace("transformers ", "Transformers, "),
            "context": row["context"],
            "over_base": row["peak_over_base_bytes"],
        }
        for row in rows
        if row["who"].startswith("transformers")
    ]


def planned(options, job, profile, strategy, plan):
    """The predicted device peak; writes the plan."""
    name, limit = strategy.split(",")[0], None
    command = [options.memo, "plan", job, "--profile", profile, "--strategy", name, "--json"]
    if "least" in strategy:
        refused = subprocess.run([*command, "--set", 'memory.device_limit="1MiB"'], capture_output=True, text=True)
        if refused.returncode != INFEASIBLE:
            raise SystemExit(refused.stderr)
        limit = re.search(r"\((\d+) bytes\)", refused.stderr)[1]
    limited = ["--set", f'memory.device_limit="{limit or 0}"']
    made = subprocess.run([*command, *limited, "-o", plan], capture_output=True, text=True)
    if made.returncode != 0:
        raise SystemExit(made.stderr)
    return json.loads(made.stdout)["device_peak_bytes"]


def measured(options, job, plan, run):
    """(device peak, peak RSS of the steps over base)."""
    _, _, base, _ = run_measured([options.memo, "--version"])
    code, output, _, _ = run_measured([options.memo, "train", job, "--plan", plan, "--out", run, "--json"])
    if code != 0:
        raise SystemExit(f"memo train ended with {code}; its message is above")
    summary = json.loads(output)
    return summary["device_peak_bytes"], summary["process_peak_rss_bytes"] - base


def plot(rows, file):
    """Lines: predicted; dots: measured over base. Both axes are logarithmic."""
    import math

    width, height, left, bottom = 720, 420, 70, 50
    contexts = sorted({row["context"] for row in rows})
    sizes = [v for row in rows for v in (row.get("predicted"), row.get("over_base")) if v]
    low, high = math.log2(min(sizes) * 0.8), math.log2(max(sizes) * 1.2)
    first, last = math.log2(contexts[0]), math.log2(contexts[-1])
    x = lambda context: left + (math.log2(context) - first) / max(last - first, 1e-9) * (width - left - 190)
    y = lambda size: 20 + (high - math.log2(size)) / (high - low) * (height - bottom - 20)
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">']
    parts.append(f'<rect width="{width}" height="{height}" fill="white"/>')
    for context in contexts:
        parts.append(f'<text x="{x(context)}" y="{height - 28}" text-anchor="middle">{context // 1024}K</text>')
    size = 2 ** math.ceil(low)
    while math.log2(size) < high:
        parts.append(f'<line x1="{left}" x2="{width - 190}" y1="{y(size)}" y2="{y(size)}" stroke="#ddd"/>')
        parts.append(f'<text x="{left - 8}" y="{y(size) + 4}" text-anchor="end">{size / 2**20:.0f} MiB</text>')
        size *= 2
    parts.append(f'<text x="{(left + width - 190) / 2}" y="{height - 8}" text-anchor="middle">tokens</text>')
    labels = []
    for i, who in enumerate(dict.fromkeys(row["who"] for row in rows)):
        own = sorted((row for row in rows if row["who"] == who), key=lambda row: row["context"])
        colour = COLOURS[i % len(COLOURS)]
        points = " ".join(f"{x(row['context']):.1f},{y(row['predicted']):.1f}" for row in own if row.get("predicted"))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for row in own:
            if row.get("over_base"):
                parts.append(f'<circle cx="{x(row["context"]):.1f}" cy="{y(row["over_base"]):.1f}" r="4" fill="{colour}"/>')
        end = own[-1].get("predicted") or own[-1].get("over_base")
        if end:
            labels.append([x(own[-1]["context"]) + 8, y(end) + 4, colour, who])
    labels.sort(key=lambda label: label[:2])
    for above, label in zip(labels, labels[1:]):
        if label[0] == above[0]:
            label[1] = max(label[1], above[1] + 13)
    for at, level, colour, who in labels:
        parts.append(f'<text x="{at:.1f}" y="{level:.1f}" fill="{colour}">{who}</text>')
    file.write_text("\n".join([*parts, "</svg>"]) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--contexts", default="4096,8192,16384,32768,65536", help="comma-separated, rising")
    parser.add_argument("--measured", type=int, default=8192, help="the longest context that is run (default 8192)")
    parser.add_argument("--peers-measured", type=int, default=8192, help="the same of Transformers (default 8192)")
    parser.add_argument("--documents", type=int, help="tokens of a document (default: one document)")
    parser.add_argument(
        "--add", type=Path, action="append", default=[], help="a file of main_job.py -o, or of an earlier run of this"
    )
    parser.add_argument("--plot", type=Path, help="SVG file")
    common_arguments(parser)
    options = parser.parse_args()
    options.steps = 1
    contexts, rows, here, good = [int(c) for c in names(options.contexts)], [], machine(), True

    with tempfile.TemporaryDirectory(dir=options.disk, prefix="memo-bench-") as name:
        folder = Path(name)
        apart(make_inputs, folder, contexts, options.seed)
        for context in contexts:
            job, profile = write_job(folder, context, options, "0"), folder / f"profile-{context}.json"
            if options.documents:
                apart_documents(job, folder / f"tokens-{context}.bin", options.documents)
            subprocess.run([options.memo, "profile", job, "-o", profile], check=True, stdout=subprocess.DEVNULL)
            for strategy in STRATEGIES:
                plan = folder / f"plan-{context}.json"
                row = {"who": strategy, "context": context, "predicted": planned(options, job, profile, strategy, plan)}
                if context <= options.measured:
                    device, over = measured(options, job, plan, folder / f"run-{context}-{STRATEGIES.index(strategy)}")
                    row |= {"device_peak": device, "over_base": over}
                    good &= device <= row["predicted"]
                rows.append(row)
            for mode in PEERS if context <= options.peers_measured else []:
                peer = run_peer(mode, folder / "model", folder / f"tokens-{context}.bin", 1)
                over = peer["peak_rss_bytes"] - peer["base_rss_bytes"] if "peak_rss_bytes" in peer else None
                rows.append({"who": f"Transformers, {mode}", "context": context, "over_base": over})

    rows += added(options.add)
    contexts = sorted({row["context"] for row in rows})
    cells = []
    for who in dict.fromkeys(row["who"] for row in rows):
        own = {row["context"]: row for row in rows if row["who"] == who}
        line = [who]
        for context in contexts:
            row = own.get(context, {})
            figures = [f"{row[k] / 1e6:.0f}" for k in ("predicted", "over_base") if row.get(k)]
            line.append(" / ".join(figures) or "-")
        ends = [own[c]["predicted"] for c in contexts[-2:] if own.get(c, {}).get("predicted")]
        line.append(f"{(ends[1] - ends[0]) / (contexts[-1] - contexts[-2]):.0f}" if len(ends) == 2 else "-")
        cells.append(line)
    print(markdown(["MB, predicted / measured over base", *contexts, "slope"], cells))
    if options.plot:
        plot(rows, options.plot)
    if options.output:
        options.output.write_text(json.dumps({"version": 1, "machine": here, "rows": rows}, indent=1) + "\n")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
