"""Memo's runs for the parts: job files, the verbs of the command, and what a row of a training run holds."""

import json
import shutil
from pathlib import Path

import models

ROOT = Path(__file__).resolve().parents[2]
TEXT = ROOT / "examples/text/kjv.txt"
SUMMARY = """step_seconds step_seconds_predicted stall_seconds stall_seconds_predicted tokens_per_second device_peak_bytes
    device_peak_bytes_predicted bytes_out bytes_in departures first_departure loss_first loss_last loss_digest grad_digest
    process_peak_rss_bytes""".split()


class MemoRuns:
    """bfloat16 with float32 master weights, AdamW in float32; the text is that of examples/text, byte by byte."""

    def __init__(self, call, options, work):
        """`work`: a folder for runs, which this may fill and empty."""
        self.call, self.options, self.work = call, options, work
        self.small = options.small
        self.shapes = models.SMALL if options.small else models.SHAPES

    def size(self, small, full):
        """A context, or other number, of a rehearsal or of a GPU."""
        return small if self.small else full

    def tokens(self, count):
        """A file of so many tokens: the text, over again where it is too short, as uint16."""
        file = self.work / f"tokens-{count}.bin"
        if not file.exists():
            text = TEXT.read_bytes()
            whole = (text * (count // len(text) + 1))[:count]
            file.write_bytes(b"".join(bytes([byte, 0]) for byte in whole))
        return file

    def documents(self, count, number):
        """So many tokens in files of odd lengths, each a document."""
        whole = self.tokens(count).read_bytes()
        cuts = sorted({2 * (count * i * i // (number * number)) for i in range(number)} | {2 * count})
        files = [self.work / f"document-{count}-{i}.bin" for i in range(len(cuts) - 1)]
        for file, begin, end in zip(files, cuts, cuts[1:]):
            file.write_bytes(whole[begin:end])
        return [str(file) for file in files]

    def job(self, shape, context, steps=2, memory=None, folder=None, train=None, data=None):
        """job.toml of a shape, or of a model folder. A key whose value is None is left out."""
        limits = {"device": "cuda", "device_limit": self.options.device_limit, "host_limit": self.options.host_limit}
        model = {"path": str(folder)} if folder else {"family": "qwen3", **self.shapes[shape]}
        train = {"context": context, "steps": steps, "checkpoint_every": "never"} | (train or {})
        tables = {
            "model": model | {"dtype": "bfloat16"},
            "data": {"files": [str(self.tokens(context * train.get("batch", 1) + 1))]} | (data or {}),
            "train": train,
            "memory": limits | (memory or {}),
        }
        lines = ["seed = 1"]
        for name, table in tables.items():
            lines += [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in table.items() if value is not None)]
        file = self.work / "job.toml"
        file.write_text("\n".join(lines) + "\n")
        return file

    def verb(self, *arguments):
        """The JSON that a verb prints, or an `error`."""
        return self.call.json_of([self.options.memo, *arguments])

    def profile(self, shape, context, **job):
        """A profile's file, kept for the rows after it in this call; or an `error`."""
        file = self.work / f"profile-{shape}-{context}.json"
        if not file.exists():
            failed = self.verb("profile", self.job(shape, context, **job), "-o", file)
            if "error" in failed:
                return failed
        return {"profile": file}

    def plan(self, shape, context, strategy="memo", **job):
        """What a plan predicts. The plan itself is kept for a `train` of this call."""
        file = self.work / f"plan-{shape}-{context}-{strategy}.json"
        plan = self.verb("plan", self.job(shape, context, **job), "--strategy", strategy, "--json", "-o", file)
        about = {"shape": shape, "context": context, "strategy": strategy}
        if "error" in plan:
            return about | plan
        keys = ("device_peak_bytes", "step_seconds", "stall_seconds", "bytes_out", "bytes_in")
        return about | {key + "_predicted": plan[key] for key in keys} | {"block": plan["block"]}

    def train(self, shape, context, strategy="memo", steps=3, digest=False, check="off", profile=None, planned=False, **job):
        """What a run measured and predicted; its folder is removed. `digest`: of the gradients too, which takes a second a GB.
        `planned`: by the plan of this call, if there is one."""
        row = {"shape": shape, "context": context, "strategy": strategy}
        out = self.work / "run"
        shutil.rmtree(out, ignore_errors=True)
        arguments = ["--out", out, "--strategy", strategy, f"--check={check}", "--json"]
        plan = self.work / f"plan-{shape}-{context}-{strategy}.json"
        if planned and plan.exists():
            arguments += ["--plan", plan]
        elif profile:
            arguments += ["--profile", profile]
        if not digest:
            arguments.append("--no-gradient-digest")
        try:
            found = self.verb("train", self.job(shape, context, steps, **job), *arguments)
        finally:
            shutil.rmtree(out, ignore_errors=True)
        if "error" in found:
            return row | found
        row |= {key: found[key] for key in SUMMARY if found.get(key) not in (None, "")}
        peak = models.peak_flops(self.call.device)
        if peak:
            causal, full = models.flops(self.shapes[shape], context)
            row["mfu_causal_percent"] = 100 * causal / row["step_seconds"] / peak
            row["mfu_full_percent"] = 100 * full / row["step_seconds"] / peak
        return row
