"""Times of attention's kernels, forward and backward: FlashAttention's, dense and of one and more documents (varlen), and cuDNN's
where LibTorch has it. As a script it measures one of them: python attention.py flash 16 8 128 32768 [deterministic]."""

import json
import sys
import time
from pathlib import Path


def attention(call, runs):
    heads, keys, dim = runs.size((4, 2, 16), (16, 8, 128))
    for context in runs.size([256], [8192, 32768, 131072]):
        for kernel in ["flash", "flash deterministic", "varlen", "varlen of 16", "cudnn"]:
            command = [sys.executable, *runs.options.python_first, Path(__file__).resolve(), kernel, heads, keys, dim, context]
            call.row("attention", f"{kernel}, {context}", lambda: call.json_of(command), 90)


def calls_of(kernel, q, k, v):
    """(forward, backward) of a kernel: forward returns what backward takes. q [S, heads, dim]"""
    import torch

    ops, tokens = torch.ops.aten, q.shape[0]
    if kernel.startswith("varlen"):
        count = 16 if kernel.endswith("16") else 1
        starts = torch.arange(0, tokens + 1, tokens // count, dtype=torch.int32, device=q.device)
        longest = tokens // count

        def forward():
            return ops._flash_attention_forward(q, k, v, starts, starts, longest, longest, 0.0, True, False)

        def backward(d, made):
            o, lse, seed, unused, _ = made
            return ops._flash_attention_backward(d, q, k, v, o, lse, starts, starts, longest, longest, 0.0, True, seed, unused)

        return forward, backward
    if kernel.startswith("flash"):
        q, k, v = (x[None] for x in (q, k, v))

        def forward():
            return ops._flash_attention_forward(q, k, v, None, None, tokens, tokens, 0.0, True, False)

        def backward(d, made):
            o, lse, seed, unused, _ = made
            return ops._flash_attention_backward(
                d[None], q, k, v, o, lse, None, None, tokens, tokens, 0.0, True, seed, unused)

        return forward, backward
    # cuDNN's, through the operator that PyTorch chooses it by; [1, heads, S, dim], with keys for each query head.
    from torch.nn import attention as choice

    group = q.shape[1] // k.shape[1]
    wide = (q, *(x.repeat_interleave(group, 1) for x in (k, v)))
    leaves = [x.transpose(0, 1)[None].detach().requires_grad_() for x in wide]

    def forward():
        with choice.sdpa_kernel(choice.SDPBackend.CUDNN_ATTENTION):
            return torch.nn.functional.scaled_dot_product_attention(*leaves, is_causal=True)

    def backward(d, made):
        return torch.autograd.grad(made, leaves, d.transpose(0, 1)[None])

    return forward, backward


def measure(kernel, heads, keys, dim, tokens):
    import torch

    torch.manual_seed(1)
    torch.use_deterministic_algorithms(kernel.endswith("deterministic"))
    torch.utils.deterministic.fill_uninitialized_memory = False
    make = lambda count: torch.randn(tokens, count, dim, device="cuda", dtype=torch.bfloat16)
    q, k, v, d = make(heads), make(keys), make(keys), make(heads)
    forward, backward = calls_of(kernel, q, k, v)
    times, begin = [], time.perf_counter()
    while len(times) < 3 or (len(times) < 20 and time.perf_counter() - begin < 5):
        torch.cuda.synchronize()
        t0 = time.perf_counter()
        made = forward()
        torch.cuda.synchronize()
        t1 = time.perf_counter()
        gradients = backward(d, made)
        torch.cuda.synchronize()
        times.append((t1 - t0, time.perf_counter() - t1))
        del made, gradients
    median = lambda values: sorted(values)[len(values) // 2]
    seconds, back = (median(column) for column in zip(*times[1:]))  # the first chooses kernels
    documents = 16 if kernel.endswith("16") else 1
    work = 4 * heads * dim * tokens * tokens / 2 / documents
    return {"kernel": kernel, "context": tokens, "forward_seconds": seconds, "backward_seconds": back,
            "forward_tflops": work / seconds / 1e12, "backward_tflops": 2.5 * work / back / 1e12}


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], *map(int, sys.argv[2:]))))
