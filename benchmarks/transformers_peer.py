"""Trains a model folder with Transformers (eager PyTorch, sdpa): the peer of Memo in main_job.py and gpu.py.

    python benchmarks/transformers_peer.py MODEL TOKENS.bin --steps 2 [--checkpointing [--offload]] [--tiled-loss] \\
        [--dtype bfloat16] [--device cuda]

TOKENS.bin holds one window of context + 1 uint16 tokens, and every step takes it; of a job with such a file, Memo does
the same. Optimizer and schedule are the defaults of job.toml. With bfloat16 weights stay in float32 under autocast, as
Trainer's bf16 has it. A tiled loss is PyTorch's linear_cross_entropy in chunks: no logits of the whole sequence. Prints
one JSON object: `losses` and `step_seconds` of each step, `base_rss_bytes` (libraries imported, no model yet), `peak_rss_bytes`
(of the process) and, on a GPU, `device_peak_bytes` (reserved). --offload keeps what autograd saves, so the layers' inputs, in
pinned host memory.
"""

import argparse
import contextlib
import json
import math
import sys
import time

import numpy as np
import torch
import transformers

LR, MIN_LR_RATIO, WEIGHT_DECAY, CLIP = 3e-4, 0.1, 0.1, 1.0
BETAS, EPS = (0.9, 0.95), 1e-8


def rss(field):
    """Bytes of this process in memory: VmRSS now, VmHWM at most so far."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(field + ":"))


def lr_at(step, steps):
    """Cosine from LR to its least over all steps, counted from 1; no warm-up."""
    least = LR * MIN_LR_RATIO
    return least + (LR - least) * 0.5 * (1 + math.cos(math.pi * step / steps))


def optimizer_of(model):
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    vectors = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": matrices, "weight_decay": WEIGHT_DECAY}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=LR, betas=BETAS, eps=EPS, fused=True)


def tiled_loss(model, inputs, targets):
    """Mean over the tokens, without logits of them all at once."""
    chunked = torch.nn.LinearCrossEntropyOptions(batch_chunk_size=1024, chunking_method=None)
    hidden = model.model(input_ids=inputs, use_cache=False).last_hidden_state[0]
    return torch.nn.functional.linear_cross_entropy(hidden, model.lm_head.weight, targets[0], options=chunked)


def train(model, window, steps, tiled, autocast, offload):
    """Losses and seconds of each step. window  # [context + 1]"""
    device = window.device.type
    saved = torch.autograd.graph.save_on_cpu(pin_memory=device == "cuda") if offload else contextlib.nullcontext()
    optimizer = optimizer_of(model)
    inputs, targets = window[None, :-1], window[None, 1:]  # [1, context]
    losses, seconds = [], []
    for step in range(1, steps + 1):
        start = time.perf_counter()
        with torch.autocast(device, torch.bfloat16, enabled=autocast), saved:
            if tiled:
                loss = tiled_loss(model, inputs, targets)
            else:
                # Given apart: by itself the model would shift its labels by one, and predict one token less than Memo.
                loss = model(input_ids=inputs, labels=targets, shift_labels=targets, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        for group in optimizer.param_groups:
            group["lr"] = lr_at(step, steps)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
        seconds.append(time.perf_counter() - start)
        print(f"step {step}/{steps}  loss {losses[-1]:.4f}  {seconds[-1]:.1f} s", file=sys.stderr, flush=True)
        del loss
    return losses, seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="model folder, saved by transformers")
    parser.add_argument("tokens", help="one window: context + 1 tokens, uint16")
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--checkpointing", action="store_true", help="gradient checkpointing, layer by layer")
    parser.add_argument("--offload", action="store_true", help="saved tensors in host memory")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--tiled-loss", action="store_true", help="PyTorch's chunked loss")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    options = parser.parse_args()

    config = transformers.AutoConfig.from_pretrained(options.model)
    model_class = getattr(transformers, config.architectures[0])  # imports what the model needs, before the base
    base = rss("VmRSS")
    model = model_class.from_pretrained(options.model, dtype=torch.float32, attn_implementation="sdpa")
    model.to(options.device).train()
    if options.checkpointing:
        enable = getattr(model, "activation_checkpointing_enable", None)  # its name before Transformers 5.20
        (enable or model.gradient_checkpointing_enable)()  # of every layer; not reentrant
    window = torch.from_numpy(np.fromfile(options.tokens, dtype=np.uint16).astype(np.int64)).to(options.device)
    losses, seconds = train(model, window, options.steps, options.tiled_loss, options.dtype == "bfloat16", options.offload)
    result = {
        "losses": losses,
        "step_seconds": seconds,
        "base_rss_bytes": base,
        "peak_rss_bytes": rss("VmHWM"),
        "threads": torch.get_num_threads(),
    }
    if options.device == "cuda":
        result["device_peak_bytes"] = torch.cuda.max_memory_reserved()
    print(json.dumps(result))


if __name__ == "__main__":
    main()
