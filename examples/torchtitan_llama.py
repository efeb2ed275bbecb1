"""torchtitan's Llama 3, trained by token blocks: the one thing to configure is that its attention is memo.attention.

    pip install torchtitan triton        # torchtitan 0.3 imports triton, also on a CPU
    python examples/torchtitan_llama.py  # after pip install . ; prints the plan, and losses with and without Memo
"""

from dataclasses import dataclass
from pathlib import Path

import memo
import torch
from torch.nn import functional as F
from torchtitan.models.common.attention import ScaledDotProductAttention
from torchtitan.models.llama3 import llama3_configs
from torchtitan.protocols.module import Module


class MemoAttention(Module):
    @dataclass(kw_only=True, slots=True)
    class Config(Module.Config):
        pass

    def __init__(self, config):
        super().__init__()

    def forward(self, q, k, v, *, attention_masks=None, scale=None, **kwargs):  # [batch, tokens, heads, head_dim]
        assert attention_masks is None, "causal only"
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        return memo.attention(q, k, v, scale=scale).transpose(1, 2)


def make_llama(attention):
    config = llama3_configs["debugmodel"](attn_backend="flex")
    for layer in config.layers:
        layer.attention.inner_attention = attention
    torch.manual_seed(0)
    model = config.build()
    model.init_states()
    return model


def train(model, context, steps):
    text = torch.frombuffer(bytearray((Path(__file__).parent / "text/kjv.txt").read_bytes()), dtype=torch.uint8).long()
    positions = torch.arange(context)[None]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses = []
    for step in range(steps):
        window = text[step * context:(step + 1) * context + 1]
        loss = F.cross_entropy(model(window[None, :-1], positions)[0], window[1:])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def main(context=2048, steps=3):
    plain = train(make_llama(ScaledDotProductAttention.Config()), context, steps)
    model = make_llama(MemoAttention.Config())
    attachment = memo.attach(model, context=context, device_limit="256MiB", disk="/var/tmp", layers="layers",
                             example=lambda tokens: (torch.zeros(1, tokens, dtype=torch.long), torch.arange(tokens)[None]))
    print(attachment.plan.describe())
    for step, losses in enumerate(zip(plain, train(model, context, steps), strict=True), 1):
        print(f"step {step}: loss {losses[0]:.5f} by itself, {losses[1]:.5f} by token blocks")
    print(f"{attachment.device_peak / 2**20:.0f} MiB of the plan's memory, last step {attachment.last['seconds']:.2f} s")


if __name__ == "__main__":
    main()
