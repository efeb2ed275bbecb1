"""The plug-in in training scripts of Transformers' Trainer and TRL's SFTTrainer, beside the same scripts without it and
with gradient checkpointing: loss curves, time of a step, memory. Each run is a process of its own.

    PYTHONPATH=build/python .venv/bin/python benchmarks/plugin.py                # the table of docs/measurements.md
    ... benchmarks/plugin.py --contexts 4096 --steps 20 --trainer sft --model qwen3
"""

import argparse
import json
import logging
import statistics
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MODES = ("plain", "checkpointing", "memo")


def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


class Peak(threading.Thread):
    """The largest resident set until it is stopped, polled."""

    def __init__(self):
        super().__init__(daemon=True)
        self.base = self.peak = resident()
        self.running = True

    def run(self):
        while self.running:
            self.peak = max(self.peak, resident())
            time.sleep(0.005)


def make_model(name):
    import torch
    import transformers as hf

    torch.manual_seed(1)
    shape = dict(hidden_size=512, intermediate_size=1536, num_hidden_layers=8, num_attention_heads=8,
                 num_key_value_heads=4, vocab_size=8192, max_position_embeddings=1 << 20)
    config = hf.LlamaConfig(**shape) if name == "llama" else hf.Qwen3Config(**shape, head_dim=64,
                                                                             tie_word_embeddings=True)
    return hf.AutoModelForCausalLM.from_config(config)


def make_tokenizer():
    import transformers as hf

    return hf.PreTrainedTokenizerFast(tokenizer_file=str(ROOT / "examples/text/tokenizer.json"))


def text_ids(tokenizer):
    return tokenizer((ROOT / "examples/text/kjv.txt").read_text(), verbose=False)["input_ids"]


def result_of(what, command, environment=None):
    """What a run in a process of its own printed behind RESULT."""
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if done.returncode or not lines:
        raise SystemExit(f"{what} failed:\n{done.stderr[-3000:]}")
    return json.loads(lines[0][7:])


def difference(losses, of):
    """The largest relative one."""
    return max(abs(a - b) / abs(b) for a, b in zip(losses, of))


def run(options):
    """One training run; prints what it measured as JSON."""
    warnings.simplefilter("ignore")
    import datasets
    import torch
    import transformers as hf

    logging.disable(logging.WARNING)
    torch.set_num_threads(2)
    tokenizer = make_tokenizer()
    tokenizer.pad_token = tokenizer.eos_token = tokenizer.convert_ids_to_tokens(0)
    ids = text_ids(tokenizer)
    rows = len(ids) // options.context
    data = datasets.Dataset.from_dict({"input_ids": [ids[i * options.context:(i + 1) * options.context]
                                                     for i in range(min(rows, options.steps))]})
    if options.trainer == "hf":
        data = data.map(lambda row: {"labels": row["input_ids"]})
    import trl  # before the base: its code is not the run's memory
    watch = Peak()
    watch.start()
    model = make_model(options.model)
    memo_plan = {}
    begun = time.monotonic()
    if options.mode == "memo":
        import memo

        attachment = memo.attach(model, context=options.context, device_limit=options.device_limit, disk=options.disk)
        memo_plan = attachment.plan.describe()
    attach_seconds = time.monotonic() - begun
    common = dict(output_dir="/tmp/memo-plugin-benchmark", per_device_train_batch_size=1, max_steps=options.steps,
                  learning_rate=3e-4, logging_steps=1, report_to=[], save_strategy="no", use_cpu=True, seed=1,
                  disable_tqdm=True, gradient_checkpointing=options.mode == "checkpointing")
    times = []

    class Times(hf.TrainerCallback):
        def on_step_begin(self, *_, **__):
            self.begun = time.monotonic()

        def on_step_end(self, *_, **__):
            times.append(time.monotonic() - self.begun)

    if options.trainer == "hf":
        trainer = hf.Trainer(model, hf.TrainingArguments(**common), train_dataset=data, callbacks=[Times()])
    else:
        trainer = trl.SFTTrainer(model, args=trl.SFTConfig(**common, max_length=None), train_dataset=data,
                                 processing_class=tokenizer, callbacks=[Times()])
    trainer.log = lambda logs, *a, **k: losses.append(logs["loss"]) if "loss" in logs else None
    losses = []
    trainer.train()
    watch.running = False
    result = {"losses": losses, "seconds": statistics.median(times[1:] or times), "attach_seconds": attach_seconds,
              "memory": watch.peak - watch.base, "plan": memo_plan}
    if options.mode == "memo":
        result["departures"] = attachment.departures[0]
        result["device_peak"] = attachment.device_peak
    print("RESULT " + json.dumps(result))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--contexts", type=int, nargs="+", default=[4096, 8192, 16384])
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--trainer", choices=("hf", "sft"), default="hf")
    parser.add_argument("--model", choices=("llama", "qwen3"), default="llama")
    parser.add_argument("--modes", nargs="+", default=list(MODES), choices=MODES)
    parser.add_argument("--device-limit", default="1GiB")
    parser.add_argument("--disk", default="/var/tmp")
    parser.add_argument("--mode", help=argparse.SUPPRESS)
    parser.add_argument("--context", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help="where to write all results as JSON")
    options = parser.parse_args()
    if options.mode:
        return run(options)
    everything = []
    for context in options.contexts:
        results = {}
        for mode in options.modes:
            arguments = [sys.executable, __file__, "--mode", mode, "--context", str(context), "--steps",
                         str(options.steps), "--trainer", options.trainer, "--model", options.model, "--device-limit",
                         options.device_limit, "--disk", options.disk]
            results[mode] = r = result_of(f"{mode} at {context}", arguments)
            everything.append({"trainer": options.trainer, "model": options.model, "context": context, "mode": mode, **r})
            base, plain = results.get("checkpointing"), results.get("plain")
            notes = [f"{r['seconds'] / base['seconds']:.2f} of checkpointing's time, "
                     f"{r['memory'] / base['memory']:.2f} of its memory"] if base and mode == "memo" else []
            other = plain or base
            if other and other is not r:
                notes.append(
                    f"losses within {difference(r['losses'], other['losses']):.1e} of {'plain' if plain else 'checkpointing'}'s"
                )
            print(f"{options.trainer} {options.model} {context} {mode}: {r['seconds']:.2f} s a step, "
                  f"{r['memory'] / 1e6:.0f} MB over base{''.join(', ' + n for n in notes)}", flush=True)
        if options.out:
            options.out.write_text(json.dumps(everything, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
