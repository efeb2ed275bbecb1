"""A model that is not of transformers: one call to memo.attention in each layer."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import families
import pytest
import torch

import memo

spec = importlib.util.spec_from_file_location("own_model", Path(__file__).parents[2] / "examples/own_model.py")
own_model = importlib.util.module_from_spec(spec)
spec.loader.exec_module(own_model)
EXAMPLE = dict(layers="blocks", example=lambda tokens: (torch.zeros(1, tokens, dtype=torch.long),))


def make(**attention):
    torch.manual_seed(0)
    model = own_model.GPT(vocab=97, width=64, heads=4, depth=2, longest=512)
    if attention:
        def forward(self, x):
            q, k, v = self.qkv(self.norm_1(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
            x = x + self.out(memo.attention(q, k[:, :2], v[:, :2], **attention).transpose(1, 2).flatten(2))
            return x + self.down(torch.relu(self.up(self.norm_2(x))))
        for block in model.blocks:
            block.__class__ = type("Changed", (type(block),), {"forward": forward})
    return model


def test_without_transformers_a_model_of_one_s_own_runs_and_another_is_refused():
    code = """
import sys
sys.modules["transformers"] = None
sys.path.insert(0, sys.argv[1])
import memo, own_model, torch
model = own_model.GPT(vocab=97, width=64, heads=4, depth=2, longest=512)
try:
    memo.attach(model, context=256)
except memo.UnsupportedModel as error:
    print(error)
memo.attach(model, context=256, layers="blocks", example=lambda tokens: (torch.zeros(1, tokens, dtype=torch.long),))
model(torch.zeros(1, 256, dtype=torch.long)).sum().backward()
"""
    ran = subprocess.run([sys.executable, "-c", code, str(Path(own_model.__file__).parent)], capture_output=True, text=True,
                         env=os.environ | {"PYTHONPATH": str(Path(memo.__file__).parents[1])})
    assert ran.returncode == 0, ran.stderr
    assert "GPT: there is no transformers here" in ran.stdout and len(ran.stdout.splitlines()) == 1


def step(model, ids):
    model.zero_grad(set_to_none=True)
    loss = torch.nn.functional.cross_entropy(model(ids)[0, :-1], ids[0, 1:])
    loss.backward()
    return loss.item(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("attention", [{}, {"window": 50}, {"softcap": 2.0, "scale": 0.4}])
def test_it_trains_as_it_does_by_itself(attention, ids):
    model = make(**attention)
    plain = step(model, ids)
    for strategy in ("resident", "recompute"):
        with memo.attached(model, context=384, block=128, strategy=strategy, **EXAMPLE):
            assert max(families.differences(step(model, ids), plain)) <= 1e-5
    assert step(model, ids)[0] == plain[0]


def test_layers_may_be_of_a_dict(ids):
    model = make()
    plain = step(model, ids)
    model.named = torch.nn.ModuleDict({str(i): block for i, block in enumerate(model.blocks)})
    with memo.attached(model, context=384, block=128, **EXAMPLE | {"layers": "named"}):
        assert max(families.differences(step(model, ids), plain)) <= 1e-5


@pytest.mark.parametrize("options, message", [
    ({"layers": "blocks"}, "example is missing"),
    (EXAMPLE | {"layers": "layers"}, "layers"),
    (EXAMPLE | {"layers": "norm"}, "ModuleDict of GPT"),
])
def test_what_is_missing_is_said(options, message):
    with pytest.raises((ValueError, AttributeError), match=message):
        memo.attach(make(), context=384, block=128, **options)


def test_layers_that_do_not_call_memo_attention_are_refused():
    model = make()
    model.blocks[1] = torch.nn.Identity()
    with pytest.raises(memo.UnsupportedModel, match="blocks: each layer calls memo.attention once"):
        memo.attach(model, context=384, block=128, **EXAMPLE)
