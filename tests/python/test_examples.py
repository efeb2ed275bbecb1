"""The examples, at small sizes (own_model.py: test_own_model.py)."""

import runpy
from pathlib import Path

import families
import pytest
import torch
from transformers import LlamaForCausalLM

import memo

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_long_text_learns_as_it_does_by_itself(monkeypatch, tmp_path):
    monkeypatch.setenv("CONTEXT", "192")
    monkeypatch.setenv("STEPS", "2")
    monkeypatch.chdir(tmp_path)  # where it writes its page
    run = runpy.run_path(str(EXAMPLES / "long_text.py"))
    assert "<title>Memo report" in (tmp_path / "long_text.html").read_text()

    torch.manual_seed(0)
    model = LlamaForCausalLM(run["model"].config)
    optimizer, losses = torch.optim.AdamW(model.parameters(), lr=1e-3), []
    for window in run["windows"][:2] + run["windows"]:
        optimizer.zero_grad()
        losses.append(model(input_ids=window, labels=window).loss)
        losses[-1].backward()
        optimizer.step()
    assert run["plain"] + run["losses"] == pytest.approx([loss.item() for loss in losses], rel=1e-5)


def test_torchtitan_llama_learns_as_it_does_by_itself():
    pytest.importorskip("torchtitan.models.llama3", exc_type=ImportError)  # also of triton, which it imports
    run = runpy.run_path(str(EXAMPLES / "torchtitan_llama.py"))
    ids = torch.randint(0, 2048, (1, 193), generator=torch.Generator().manual_seed(2))

    def step(model):
        loss = torch.nn.functional.cross_entropy(model(ids[:, :-1], torch.arange(192)[None])[0], ids[0, 1:])
        loss.backward()
        return loss.item(), {name: p.grad for name, p in model.named_parameters()}

    plain = step(run["make_llama"](run["ScaledDotProductAttention"].Config()))
    model = run["make_llama"](run["MemoAttention"].Config())
    with memo.attached(model, context=192, block=64, layers="layers",
                       example=lambda n: (torch.zeros(1, n, dtype=torch.long), torch.arange(n)[None])):
        assert max(families.differences(step(model), plain)) <= 1e-5
