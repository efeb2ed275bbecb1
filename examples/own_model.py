"""A small GPT written by hand, trained by token blocks: what a model that is not of transformers needs is the one call to
memo.attention.

    python examples/own_model.py          # after pip install . ; prints the plan and a few losses
"""

from pathlib import Path

import memo
import torch
from torch import nn
from torch.nn import functional as F


class Layer(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):  # [batch, tokens, width]
        q, k, v = self.qkv(self.norm_1(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        x = x + self.out(memo.attention(q, k, v).transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.norm_2(x))))


class GPT(nn.Module):
    def __init__(self, vocab=256, width=128, heads=4, depth=4, longest=8192):
        super().__init__()
        self.tokens, self.positions = nn.Embedding(vocab, width), nn.Embedding(longest, width)
        self.blocks = nn.ModuleList(Layer(width, heads) for _ in range(depth))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, vocab)

    def forward(self, ids):  # [batch, tokens]
        x = self.tokens(ids) + self.positions(torch.arange(ids.shape[1]))
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def main(context=4096, steps=5):
    torch.manual_seed(0)
    text = torch.frombuffer(bytearray((Path(__file__).parent / "text/kjv.txt").read_bytes()), dtype=torch.uint8).long()
    model = GPT()
    attachment = memo.attach(model, context=context, device_limit="128MiB", disk="/var/tmp", layers="blocks",
                             example=lambda tokens: (torch.zeros(1, tokens, dtype=torch.long),))
    print(attachment.plan.describe())
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for step in range(steps):
        window = text[step * context:(step + 1) * context + 1]
        loss = F.cross_entropy(model(window[None, :-1])[0], window[1:])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        print(f"step {step + 1}: loss {loss.item():.4f}, {attachment.last['seconds']:.2f} s")


if __name__ == "__main__":
    main()
