"""SFTTrainer and DPOTrainer with `peft_config`, attached before the trainer puts the adapters on, beside the plain trainers.

    .venv/bin/python benchmarks/adapters.py [--steps 20]

Without dropout the losses are to be the plain trainer's. With lora_dropout 0.1 each draws masks of its own, so losses are
shown beside each other, and the slope of the loss along its gradient, over the gradient's norm, with one seed for all three
losses: 1 where the gradient is that of the loss. One table row a trainer, dtype and dropout; bfloat16 is Trainer's `bf16`
(autocast)."""

import argparse
import contextlib
import logging
import sys
import tempfile
import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "build" / "python"), str(ROOT / "tests" / "python")]

import datasets  # noqa: E402
import families  # noqa: E402
import peft  # noqa: E402
import tokenizers  # noqa: E402
import torch  # noqa: E402
import transformers as hf  # noqa: E402
import trl  # noqa: E402

import memo  # noqa: E402

WORDS = 97


def tokenizer():
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({f"w{i}": i for i in range(WORDS)}, unk_token="w0"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    return hf.PreTrainedTokenizerFast(tokenizer_object=words, pad_token="w0", eos_token="w1")


def text(generator, words):
    return " ".join(f"w{i}" for i in torch.randint(2, WORDS, (words,), generator=generator).tolist())


def data(kind, rows=48):
    generator = torch.Generator().manual_seed(5)
    if kind == "SFT":
        return datasets.Dataset.from_list([{"text": text(generator, 150)} for _ in range(rows)])
    return datasets.Dataset.from_list([{"prompt": text(generator, 60), "chosen": " " + text(generator, 80),
                                        "rejected": " " + text(generator, 70)} for _ in range(rows)])


def trainer_of(kind, model, steps, bf16, dropout, folder):
    common = dict(
        output_dir=folder,
        per_device_train_batch_size=2,
        max_steps=steps,
        logging_steps=1,
        report_to=[],
        save_strategy="no",
        use_cpu=True,
        disable_tqdm=True,
        learning_rate=1e-3,
        seed=1,
        bf16=bf16,
    )
    lora = peft.LoraConfig(task_type="CAUSAL_LM", r=8, target_modules="all-linear", lora_dropout=dropout)
    made = trl.SFTTrainer if kind == "SFT" else trl.DPOTrainer
    settings = trl.SFTConfig(**common) if kind == "SFT" else trl.DPOConfig(**common, disable_dropout=False)
    torch.manual_seed(3)
    return made(model, args=settings, train_dataset=data(kind), processing_class=tokenizer(), peft_config=lora)


def slope(trainer, bf16):
    """Of the loss of a batch, as the trainer computes it."""
    model = trainer.model.train()
    batch = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
    parameters = [p for p in model.parameters() if p.requires_grad]

    def loss():
        torch.manual_seed(7)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            return trainer.compute_loss(model, dict(batch))

    model.zero_grad()
    loss().backward()
    gradients = [p.grad.clone() for p in parameters]
    norm = torch.stack([g.norm() for g in gradients]).norm()
    length, values = 0.003 / norm, []
    for sign in (1, -1):
        with torch.no_grad():
            for p, g in zip(parameters, gradients):
                p += sign * length * g / norm
        values.append(loss().item())
        with torch.no_grad():
            for p, g in zip(parameters, gradients):
                p -= sign * length * g / norm
    return ((values[0] - values[1]) / (2 * length) / norm).item()


def run(kind, steps, bf16, dropout, attach):
    """(losses, slope)"""
    model = families.make("llama", num_hidden_layers=4)
    with tempfile.TemporaryDirectory() as folder:
        attached = memo.attached(model, context=600, block=128) if attach else contextlib.nullcontext()
        with attached:
            trainer = trainer_of(kind, model, steps, bf16, dropout, folder)
            trainer.train()
            losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
            return losses, slope(trainer, bf16)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--trainers", nargs="+", choices=["SFT", "DPO"], default=["SFT", "DPO"])
    given = parser.parse_args()
    steps = given.steps
    logging.disable(logging.WARNING)
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    print("| trainer | dtype | dropout | loss at 1, 10, 20: plain | attached | largest difference | slope: plain | attached |")
    print("|---|---|---|---|---|---|---|---|")
    for kind in given.trainers:
        for bf16 in (False, True):
            for dropout in (0.0, 0.1):
                (plain, plain_slope), (ours, our_slope) = (run(kind, steps, bf16, dropout, attach) for attach in (False, True))
                shown = [", ".join(f"{losses[i]:.4f}" for i in (0, (steps - 1) // 2, steps - 1)) for losses in (plain, ours)]
                largest = max(abs(a - b) for a, b in zip(plain, ours))
                print(f"| {kind} | {'bfloat16' if bf16 else 'float32'} | {dropout} | {shown[0]} | {shown[1]} | {largest:.1e} | "
                      f"{plain_slope:.3f} | {our_slope:.3f} |", flush=True)


if __name__ == "__main__":
    main()
