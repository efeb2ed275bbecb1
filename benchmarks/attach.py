"""What attaching costs, and the look at the model before each step.

    .venv/bin/python benchmarks/attach.py [--context 4096]

A Llama of 29.4 M parameters (that of docs/measurements.md), float32, one document. Prints seconds of memo.attach with
and without its check, over a plain step of the same tokens in the same run, and microseconds of a look over the attached
step's."""

import argparse
import sys
import time
import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "build" / "python")]

import torch  # noqa: E402
import transformers as hf  # noqa: E402

import memo  # noqa: E402


def seconds(work, times):
    taken = []
    for _ in range(times):
        begin = time.perf_counter()
        work()
        taken.append(time.perf_counter() - begin)
    return sorted(taken)[times // 2]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--context", type=int, default=4096)
    context = parser.parse_args().context
    warnings.filterwarnings("ignore")
    torch.manual_seed(0)
    model = hf.LlamaForCausalLM(
        hf.LlamaConfig(
            hidden_size=512,
            intermediate_size=1536,
            num_hidden_layers=8,
            num_attention_heads=8,
            num_key_value_heads=4,
            vocab_size=8192,
        )
    ).train()
    ids = torch.randint(8192, (1, context))

    def step():
        model.zero_grad()
        model(input_ids=ids, labels=ids).loss.backward()

    plain = seconds(step, 2)
    for check in (False, True):
        begin = time.perf_counter()
        attachment = memo.attach(model, context=context, check=check)
        taken = time.perf_counter() - begin
        print(f"attach, check={check}: {taken:.2f} s, {taken / plain:.2f} plain steps of {plain:.2f} s")
        if not check:
            memo.detach(model)
    step()
    attached = seconds(step, 2)
    planning = getattr(attachment, "_planning", None)
    if hasattr(planning, "look_again"):
        look = seconds(planning.look_again, 21)
        print(f"a look: {look * 1e6:.0f} us, {look / attached:.1e} of a step of {attached:.2f} s")


if __name__ == "__main__":
    main()
