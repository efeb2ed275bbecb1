"""What `make gpu` runs on a machine with a GPU, part by part: each writes its rows into OUT/<part>.json and is not run again
while that file is there. At the end, one Markdown file of all parts with the targets beside the figures.

    python benchmarks/gpu.py --out docs/measurements/gpu [--parts copies,bits,overlap,shapes,longest,peers] [--small]

Weights are random, the text is that of examples/text, byte by byte; bfloat16 with float32 master weights, AdamW in float32. A
part stops taking up new rows when its --minutes are over, and says which ones it left. --small: models and contexts of a few
layers and tokens, to try the script itself (with build/tests/memo_emulated as --memo, on a machine without a GPU).
"""

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TEXT = ROOT / "examples/text/kjv.txt"
INFEASIBLE = 3  # exit code of memo
K = 1024
SHAPES = {  # those of Qwen3
    "0.6B": dict(hidden=1024, layers=28, heads=16, kv_heads=8, head_dim=128, ffn=3072, vocab=151936, tied=True),
    "1.7B": dict(hidden=2048, layers=28, heads=16, kv_heads=8, head_dim=128, ffn=6144, vocab=151936, tied=True),
    "4B": dict(hidden=2560, layers=36, heads=32, kv_heads=8, head_dim=128, ffn=9728, vocab=151936, tied=True),
    "8B": dict(hidden=4096, layers=36, heads=32, kv_heads=8, head_dim=128, ffn=12288, vocab=151936, tied=False),
}
LONGEST = {"0.6B": 1024 * K, "1.7B": 512 * K, "4B": 256 * K, "8B": 128 * K}  # targets, tokens
SMALL = {"tiny": dict(hidden=64, layers=3, heads=4, kv_heads=2, head_dim=16, ffn=128, vocab=256, tied=True)}
PEAK_FLOPS = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "B200": 2250e12, "L40S": 362e12, "4090": 165e12, "A10": 125e12}


def flops(shape, context):
    """Of a step, forward and backward: with attention's causal half counted, and with all of it."""
    heads = shape["heads"] * shape["head_dim"]
    layer = shape["hidden"] * (2 * heads + 2 * shape["kv_heads"] * shape["head_dim"] + 3 * shape["ffn"])
    products = 6 * context * (layer * shape["layers"] + shape["hidden"] * shape["vocab"])
    attention = 12 * shape["layers"] * heads * context * context
    return products + attention / 2, products + attention


class Bench:
    def __init__(self, options, folder):
        self.options, self.folder = options, folder
        self.shapes = SMALL if options.small else SHAPES
        self.deadline = 0

    def job(self, shape, context, steps=2, memory=None, folder=None, tokens=None):
        limits = {"device": "cuda", "device_limit": self.options.device_limit, "host_limit": self.options.host_limit}
        tables = {
            "model": dict(dtype="bfloat16", **(dict(path=str(folder)) if folder else dict(family="qwen3", **self.shapes[shape]))),
            "data": dict(files=[str(tokens or TEXT)]),
            "train": dict(context=context, steps=steps, checkpoint_every=0),
            "memory": limits | (memory or {}),
        }
        file = self.folder / "job.toml"
        lines = ["seed = 1"]
        for name, table in tables.items():
            lines += [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in table.items() if value is not None)]
        file.write_text("\n".join(lines) + "\n")
        return file

    def memo(self, *arguments):
        """The JSON that a command prints; None when the job does not fit, or `error` of what went wrong."""
        print("+ memo", *arguments, file=sys.stderr, flush=True)
        ran = subprocess.run([self.options.memo, *map(str, arguments)], capture_output=True, text=True)
        if ran.returncode == INFEASIBLE:
            return None
        if ran.returncode != 0:
            return {"error": ran.stderr.strip().splitlines()[-1][:300]}
        return json.loads(ran.stdout) if ran.stdout.startswith("{") else {}

    def run(self, shape, context, strategy="memo", memory=None, steps=2, **data):
        """A row of one training run."""
        row = {"shape": shape, "context": context, "strategy": strategy}
        out = self.folder / f"run-{time.monotonic_ns()}"
        found = self.memo(
            "train", self.job(shape, context, steps, memory, **data), "--out", out, "--strategy", strategy, "--json"
        )
        if found is None or "error" in found:
            return row | (found or {"error": "does not fit"})
        causal, full = flops(self.shapes[shape], context)
        keys = """step_seconds step_seconds_predicted stall_seconds tokens_per_second device_peak_bytes bytes_out bytes_in
            loss_first loss_digest grad_digest departures"""
        row |= {key: found.get(key) for key in [*keys.split(), "device_peak_bytes_predicted"]}
        peak = next((p for name, p in PEAK_FLOPS.items() if name in self.options.name), None)
        if peak:
            row |= {
                "mfu_causal_pct": 100 * causal / row["step_seconds"] / peak,
                "mfu_full_pct": 100 * full / row["step_seconds"] / peak,
            }
        self.last = out
        return row

    def until_late(self, rows_of):
        """Rows of the generator of (name, function) until the part's time is over."""
        rows = []
        for name, function in rows_of:
            rows.append({"left": name} if time.monotonic() > self.deadline else function())
        return rows

    # ---- the parts

    def copies(self):
        shape, context = next(iter(self.shapes)), 512 if self.options.small else 8 * K
        profile = self.folder / "profile.json"
        failed = self.memo("profile", self.job(shape, context), "-o", profile)
        if failed:
            return [failed]
        return [json.loads(profile.read_text())["tiers"][0]]

    def bits(self):
        """Strategies and tiers give the same bits."""
        shape, context = next(iter(self.shapes)), 512 if self.options.small else 16 * K
        strategies = ["resident", "recompute", "offload", "memo", "memo-alpha"]
        rows = self.until_late((s, lambda s=s: self.run(shape, context, s)) for s in strategies)
        digests = {(row["loss_digest"], row["grad_digest"]) for row in rows if "loss_digest" in row}
        return [*rows, {"same_bits": len(digests) == 1}]

    def overlap(self):
        """Memo under a limit at which half of what `resident` keeps must move, against `resident`."""
        rows = []
        for shape in list(self.shapes)[:2]:
            context = 512 if self.options.small else 32 * K
            resident = self.run(shape, context, "resident", steps=3)
            if "error" in resident:
                rows.append(resident)
                continue
            offload = self.memo("plan", self.job(shape, context), "--strategy", "offload", "--json")
            limit = (resident["device_peak_bytes"] + offload["device_peak_bytes"]) // 2
            memo = self.run(shape, context, memory={"device_limit": limit}, steps=3)
            rows += [resident, memo | {"to_resident": memo.get("step_seconds", 0) / resident["step_seconds"]}]
        return rows

    def shapes_over_contexts(self):
        contexts = [256, 512] if self.options.small else [32 * K, 64 * K, 128 * K, 256 * K, 512 * K, 1024 * K]
        return self.until_late(
            (f"{shape} {c}", lambda shape=shape, c=c: self.run(shape, c)) for c in contexts for shape in self.shapes
        )

    def longest(self):
        """Of each strategy by its plan, doubling; Memo's is then trained for a step. Transformers' where it is installed."""
        rows, start = [], 256 if self.options.small else 16 * K
        end = 2 * start if self.options.small else 2048 * K
        for shape in self.shapes:
            best = {}
            for strategy in ["memo", "recompute", "offload", "resident"]:
                context = start
                while context <= end and time.monotonic() < self.deadline:
                    plan = self.memo("plan", self.job(shape, context), "--strategy", strategy, "--json")
                    if plan is None or "error" in plan:
                        break
                    best[strategy] = context
                    context *= 2
            rows.append({"shape": shape, "longest_by_plan": best, "target": LONGEST.get(shape)})
            if "memo" in best and time.monotonic() < self.deadline:
                rows.append(self.run(shape, best["memo"], steps=1))
        return rows

    def peers(self):
        """Transformers with checkpointing and offloaded inputs, doubling until it fails, and Memo: same weights and tokens."""
        if importlib.util.find_spec("transformers") is None:
            return [{"left": "Transformers is not installed"}]
        shape, context, rows = next(iter(self.shapes)), 256 if self.options.small else 8 * K, []
        make = [sys.executable, __file__, "--out", self.folder / "model", "--make-model", json.dumps(self.shapes[shape])]
        subprocess.run(make, check=True)
        peer = [sys.executable, ROOT / "benchmarks/transformers_peer.py", self.folder / "model"]
        while time.monotonic() < self.deadline and context <= (512 if self.options.small else 2048 * K):
            tokens = self.folder / "tokens.bin"
            text = TEXT.read_bytes()[: context + 1]
            tokens.write_bytes(b"".join(bytes([byte, 0]) for byte in text))  # uint16
            memo = self.run(shape, context, folder=self.folder / "model", tokens=tokens)
            command = [
                *peer,
                tokens,
                "--steps",
                "2",
                "--checkpointing",
                "--offload",
                "--dtype",
                "bfloat16",
                "--device",
                self.options.peer_device,
            ]
            ran = subprocess.run(list(map(str, command)), capture_output=True, text=True)
            rows.append(memo)
            if ran.returncode != 0:
                rows.append(
                    {
                        "shape": shape,
                        "context": context,
                        "strategy": "Transformers",
                        "error": ran.stderr.strip().splitlines()[-1][:200],
                    }
                )
                break
            found = json.loads(ran.stdout)
            row = {
                "shape": shape,
                "context": context,
                "strategy": "Transformers",
                "step_seconds": found["step_seconds"][-1],
                "loss_first": found["losses"][0],
            }
            row["device_peak_bytes"] = found.get("device_peak_bytes")
            if "step_seconds" in memo:
                memo["to_transformers"] = memo["step_seconds"] / row["step_seconds"]
                memo["loss_difference"] = abs(memo["loss_first"] / row["loss_first"] - 1)
            rows.append(row)
            context *= 2
        return rows


def make_model(shape, folder):
    """Random weights, by Transformers."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(1)
    names = dict(
        hidden="hidden_size",
        layers="num_hidden_layers",
        heads="num_attention_heads",
        kv_heads="num_key_value_heads",
        head_dim="head_dim",
        ffn="intermediate_size",
        vocab="vocab_size",
        tied="tie_word_embeddings",
    )
    config = Qwen3Config(
        **{names[key]: value for key, value in shape.items()},
        max_position_embeddings=1 << 21,
        bos_token_id=None,
        eos_token_id=None,
        dtype="float32",
    )
    Qwen3ForCausalLM(config).save_pretrained(folder)


PARTS = {
    "copies": Bench.copies,
    "bits": Bench.bits,
    "overlap": Bench.overlap,
    "shapes": Bench.shapes_over_contexts,
    "longest": Bench.longest,
    "peers": Bench.peers,
}
TARGETS = {
    "copies": "copies cost at most 0.6 % of a step",
    "bits": "the same bits for every strategy, no departures from the plan",
    "overlap": "step time of memo within 1.01 of resident where both fit",
    "shapes": "MFU with causal attention at least 45 % at 256K; memory predicted within 2 %, time within 10 %",
    "peers": "step time at least 1.3 times better (0.77), contexts at least twice as long; the same loss",
    "longest": ", ".join(f"{name}: {tokens // K}K" for name, tokens in LONGEST.items()),
}


def table(rows):
    keys = list(dict.fromkeys(key for row in rows for key in row))
    show = lambda v: "" if v is None else f"{v:.4g}" if isinstance(v, float) else str(v)
    lines = ["| " + " | ".join(keys) + " |", "|" + " --- |" * len(keys)]
    return "\n".join([*lines, *("| " + " | ".join(show(row.get(key)) for key in keys) + " |" for row in rows)])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--memo", default=str(ROOT / "build/memo"))
    parser.add_argument("--out", type=Path, required=True, help="folder of the parts' JSON; the report is OUT-<name>.md")
    parser.add_argument("--name", default="GPU", help="of the device, as nvidia-smi has it")
    parser.add_argument("--parts", default=",".join(PARTS), help="comma-separated")
    parser.add_argument("--minutes", type=float, default=9, help="of a part (default 9)")
    parser.add_argument("--device-limit", default="70GiB")
    parser.add_argument("--host-limit", default="96GiB", help="pinned host memory")
    parser.add_argument("--peer-device", default="cuda", choices=["cpu", "cuda"])
    parser.add_argument("--make-model", help=argparse.SUPPRESS)  # in a process of its own: a shape in JSON, saved to --out
    parser.add_argument("--small", action="store_true", help="tiny models, to try this script")
    options = parser.parse_args()
    if options.make_model:
        return make_model(json.loads(options.make_model), options.out)
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="memo-gpu-") as name:
        bench = Bench(options, Path(name))
        for part in options.parts.split(","):
            file = options.out / f"{part}.json"
            if file.exists():
                continue
            bench.deadline = time.monotonic() + 60 * options.minutes
            rows = PARTS[part](bench)
            file.write_text(json.dumps({"device": options.name, "part": part, "rows": rows}, indent=1) + "\n")
        trace = options.out / "trace.perfetto-trace"
        if hasattr(bench, "last") and not trace.exists():
            subprocess.run(
                [options.memo, "report", bench.last, "-o", options.out / "report.html", "--perfetto", trace], check=True
            )
    text = [
        f"# {options.name}",
        "",
        "By `make gpu`; sizes in bytes, times in seconds. Each part's target stands above its table.",
    ]
    for part in PARTS:
        file = options.out / f"{part}.json"
        if file.exists():
            text += ["", f"## {part}", "", f"Target: {TARGETS[part]}.", "", table(json.loads(file.read_text())["rows"])]
    report = options.out.parent / f"{options.out.name}-{options.name.replace(' ', '-')}.md"
    report.write_text("\n".join(text) + "\n")
    print(report)


if __name__ == "__main__":
    main()
