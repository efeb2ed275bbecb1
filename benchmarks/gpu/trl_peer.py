"""Trains a model folder with TRL's SFTTrainer and its settings for long contexts: gradient checkpointing, activations
offloaded, one example of the whole context, so packed and without padding, and no Liger kernels. A peer of peers.py.

    python trl_peer.py MODEL TOKENS.bin --steps 3 --dtype bfloat16 [--device cuda]

TOKENS.bin holds one window of context + 1 uint16 tokens. Prints one JSON object: `losses` and `step_seconds` of each step,
`settings`, and on a GPU `device_peak_bytes` (reserved).
"""

import argparse
import json
import tempfile
import time

import datasets
import numpy as np
import tokenizers
import torch
import transformers
import trl

SETTINGS = {  # those that this TRL has
    "gradient_checkpointing": True,
    "gradient_checkpointing_kwargs": {"use_reentrant": False},
    "activation_offloading": True,
    "padding_free": False,
    "packing": False,
    "use_liger_kernel": False,
}


class Clock(transformers.TrainerCallback):
    def __init__(self):
        self.seconds, self.begin = [], 0.0

    def on_step_begin(self, *_, **__):
        self.begin = self.now()

    def on_step_end(self, *_, **__):
        self.seconds.append(self.now() - self.begin)

    @staticmethod
    def now():
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.perf_counter()


def tokenizer():
    """The trainer asks for one; the examples are tokens already."""
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0, "b": 1}, unk_token="a"))
    return transformers.PreTrainedTokenizerFast(tokenizer_object=words, pad_token="a", eos_token="b")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("tokens")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--dtype", choices=["bfloat16"], default="bfloat16")  # autocast; weights in float32
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda")
    options = parser.parse_args()
    tokens = np.fromfile(options.tokens, dtype=np.uint16).astype(np.int64).tolist()
    model = transformers.AutoModelForCausalLM.from_pretrained(
        options.model, dtype=torch.float32, attn_implementation="sdpa")
    settings = dict(SETTINGS)
    if options.device == "cpu":
        settings["activation_offloading"] = False  # which is from a GPU
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        config = trl.SFTConfig(
            output_dir=folder, per_device_train_batch_size=1, max_steps=options.steps, max_length=len(tokens), logging_steps=1,
            report_to=[], save_strategy="no", use_cpu=options.device == "cpu", disable_tqdm=True, learning_rate=3e-4,
            optim="adamw_torch_fused", weight_decay=0.1, adam_beta2=0.95, max_grad_norm=1.0, lr_scheduler_type="cosine",
            warmup_steps=0, seed=1, bf16=True, dataset_kwargs={"skip_prepare_dataset": True}, **settings)
        data = datasets.Dataset.from_list([{"input_ids": tokens, "labels": tokens}])
        trainer = trl.SFTTrainer(model, args=config, train_dataset=data, processing_class=tokenizer(), callbacks=[clock])
        trainer.train()
    result = {
        "losses": [entry["loss"] for entry in trainer.state.log_history if "loss" in entry],
        "step_seconds": clock.seconds,
        "settings": {"trl": trl.__version__} | {key: value for key, value in settings.items() if not isinstance(value, dict)},
    }
    if options.device == "cuda":
        result["device_peak_bytes"] = torch.cuda.max_memory_reserved()
    print(json.dumps(result))


if __name__ == "__main__":
    main()
