"""Dropout in layers: what a block draws belongs to it, so what is computed again draws the same; and given the same masks, loss
and gradients are the plain model's."""

import families
import peft
import pytest
import torch
from memo.block_greenlet import tokens_of_block

import memo

OPTIONS = dict(context=512, block=128)
TOKENS = 512


@pytest.fixture
def same_masks(monkeypatch):
    """nn.Dropout drops by its module's name and the token, in blocks and outside of them; returns what names modules, and a
    count of the calls within blocks."""
    def name(model):
        for n, module in model.named_modules():
            if isinstance(module, torch.nn.Dropout):
                module.masks_of = n

    within_blocks = []

    def forward(self, x):
        if not self.training or self.p == 0:
            return x
        seed = sum(map(ord, self.masks_of))
        keep = torch.rand(TOKENS, x.shape[-1], generator=torch.Generator().manual_seed(seed)) >= self.p
        _, begin, end = tokens_of_block() or (0, 0, x.shape[-2])
        if tokens_of_block():
            within_blocks.append(begin)
        return x * keep[begin:end].to(x.dtype) / (1 - self.p)

    monkeypatch.setattr(torch.nn.Dropout, "forward", forward)
    return name, within_blocks


def gpt2(**changes):
    return families.make("gpt2", resid_pdrop=0.2, embd_pdrop=0.1, **changes)


def lora(dropout):
    torch.manual_seed(0)
    model = peft.get_peft_model(families.make("llama"), peft.LoraConfig(
        task_type="CAUSAL_LM", r=4, target_modules="all-linear", lora_dropout=dropout))
    with torch.no_grad():
        for n, p in model.named_parameters():
            if "lora_B" in n:
                p.normal_(std=0.05)
    return model.train()


MODELS = {"gpt2": gpt2, "LoRA": lambda: lora(0.3)}


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("strategy", ["resident", "recompute", "offload"])
def test_given_the_same_masks_loss_and_gradients_are_the_plain_model_s(make, strategy, ids, same_masks, tmp_path):
    name, within_blocks = same_masks
    model, plain = make(), make()
    name(model), name(plain)
    exact = families.step(plain, input_ids=ids, labels=ids)
    with memo.attached(model, strategy=strategy, disk=tmp_path if strategy == "offload" else None, **OPTIONS):
        within_blocks.clear()
        assert max(families.differences(families.step(model, input_ids=ids, labels=ids), exact)) <= 1e-5
        assert within_blocks


def slope(model, ids, autocast):
    """Of the loss along its gradient, over the gradient's norm, with the random numbers of the step: 1 where the gradient is
    that of the loss."""
    parameters = [p for p in model.parameters() if p.requires_grad]

    def loss():
        torch.manual_seed(7)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            return model(input_ids=ids, labels=ids).loss

    model.zero_grad()
    loss().backward()
    gradients = [p.grad.clone() for p in parameters]
    norm = torch.stack([g.norm() for g in gradients]).norm()
    length = 0.003 / norm

    def at(sign):
        with torch.no_grad():
            for p, g in zip(parameters, gradients):
                p += sign * length * g / norm
        value = loss().item()
        with torch.no_grad():
            for p, g in zip(parameters, gradients):
                p -= sign * length * g / norm
        return value

    return ((at(1) - at(-1)) / (2 * length) / norm).item()


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("strategy", ["resident", "recompute"])
@pytest.mark.parametrize("autocast", [False, True], ids=["float32", "bfloat16"])
def test_gradients_are_those_of_the_loss_with_the_masks_that_were_drawn(make, strategy, autocast, ids):
    model = make()
    with memo.attached(model, strategy=strategy, **OPTIONS):
        assert slope(model, ids, autocast) == pytest.approx(1, abs=0.1 if autocast else 0.02)


def test_seeds_differ_between_steps_layers_and_blocks_and_the_user_s_seed_gives_them_again(ids, monkeypatch):
    model, seen, plain = gpt2(), {}, torch.nn.functional.dropout

    def dropout(*args):
        if tokens_of_block():
            seen.setdefault(tokens_of_block()[:2], []).append(torch.initial_seed())
        return plain(*args)

    with memo.attached(model, strategy="recompute", **OPTIONS):
        families.step(model, input_ids=ids, labels=ids)
        monkeypatch.setattr(torch.nn.functional, "dropout", dropout)

        def seeds():
            seen.clear()
            families.step(model, input_ids=ids, labels=ids)
            return dict(seen)

        torch.manual_seed(1)
        first, second = seeds(), seeds()
        torch.manual_seed(1)
        again = seeds()
    drawn = [seed for step in (first, second) for of_block in step.values() for seed in set(of_block)]
    assert len(first) == 9 and len(set(drawn)) == len(drawn)
    for place, of_block in first.items():
        assert of_block == again[place]
        half = len(of_block) // 2  # computed again in backward
        assert half and of_block[:half] == of_block[half:]


def test_a_model_without_dropout_draws_nothing(ids):
    model = families.make("llama")
    with memo.attached(model, **OPTIONS):
        before = torch.get_rng_state()
        families.step(model, input_ids=ids, labels=ids)
        assert torch.equal(before, torch.get_rng_state())


def test_attaching_draws_nothing(ids):
    model = gpt2()
    before = torch.get_rng_state()
    memo.attach(model, **OPTIONS)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("when", ["before attach", "after attach"])
def test_dropout_of_attention_s_weights_is_refused_by_name(when, ids):
    model = families.make("gpt2", attn_pdrop=0.1 if when == "before attach" else 0.0)
    with pytest.raises(memo.UnsupportedModel, match=r"transformer\.h\.0 .*dropout 0\.1 .*attention"):
        memo.attach(model, **OPTIONS)
        for layer in model.transformer.h:
            layer.attn.attn_dropout.p = 0.1
        model(input_ids=ids, labels=ids)
