"""What training scripts do with a model, attached and not: batches, padding, packing, accumulation, evaluation."""

import contextlib
import json

import families
import pytest
import torch

import memo

OPTIONS = dict(context=512, block=128, strategy="recompute")


def both(model, **inputs):
    plain = families.step(model, **inputs)
    with memo.attached(model, **OPTIONS):
        return families.differences(families.step(model, **inputs), plain)


def batch():
    return torch.randint(1, 97, (3, 150), generator=torch.Generator().manual_seed(3))


def test_rows_of_a_batch_do_not_see_each_other():
    ids = batch()
    assert max(both(families.make("llama"), input_ids=ids, labels=ids)) <= 1e-5


def test_padding_on_both_sides():
    ids, mask = batch(), torch.ones(3, 150, dtype=torch.long)
    mask[1, :40] = 0
    mask[2, 100:] = 0
    labels = ids.masked_fill(mask == 0, -100)
    labels[1, 40] = -100  # what padding would predict
    assert max(both(families.make("llama"), input_ids=ids, labels=labels, attention_mask=mask)) <= 1e-5


def test_packed_documents(ids):
    positions = torch.cat([torch.arange(100), torch.arange(77), torch.arange(200)])[None]
    inputs = dict(input_ids=ids, labels=ids, position_ids=positions, use_cache=False)
    assert max(both(families.make("qwen3"), **inputs)) <= 1e-5


@pytest.mark.parametrize("tokens", [7, 600])
def test_lengths_that_were_not_planned_for(tokens):
    ids = torch.randint(1, 97, (1, tokens), generator=torch.Generator().manual_seed(4))
    assert max(both(families.make("mistral"), input_ids=ids, labels=ids)) <= 1e-5


def test_frozen_weights_get_no_gradients(ids):
    model = families.make("llama")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("q_proj" in name)
    assert max(both(model, input_ids=ids, labels=ids)) <= 1e-5
    assert all(("q_proj" in name) == (p.grad is not None) for name, p in model.named_parameters())


def test_lengths_that_take_turns_give_the_same_bits_and_each_plan_is_watched_once(ids):
    model = families.make("llama")
    with memo.attached(model, **OPTIONS) as attachment:
        seen = {}
        for tokens in (377, 150, 377, 150):
            step = families.step(model, input_ids=ids[:, :tokens], labels=ids[:, :tokens])
            loss, gradients, checked = seen.setdefault(tokens, (*step, attachment.checked))
            assert step[0] == loss and all(torch.equal(g, gradients[name]) for name, g in step[1].items())
            assert checked["accesses"] > 0 and attachment.checked == checked
        assert seen[377][2] != seen[150][2]


def test_gradients_accumulate_and_the_loss_may_be_scaled():
    model, ids = families.make("llama"), batch()

    def accumulate():
        model.zero_grad(set_to_none=True)
        for row in ids:
            (model(input_ids=row[None], labels=row[None]).loss / 3).backward()
        return 1.0, {name: p.grad.clone() for name, p in model.named_parameters()}

    plain = accumulate()
    with memo.attached(model, **OPTIONS):
        assert families.differences(accumulate(), plain)[1] <= 1e-5


@pytest.mark.parametrize("family", ["llama", "qwen3"])
@pytest.mark.parametrize("within", [False, True], ids=["attached outside", "attached inside"])
def test_autocast(family, within, ids, tmp_path):
    model = families.make(family)
    exact = families.step(model, input_ids=ids, labels=ids)
    autocast = torch.autocast("cpu", dtype=torch.bfloat16)

    def step():
        model.zero_grad(set_to_none=True)
        with autocast:
            loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        return loss.item(), {name: p.grad.clone() for name, p in model.named_parameters()}

    plain = step()
    rounding = families.differences(plain, exact)
    with autocast if within else contextlib.nullcontext():
        attachment = memo.attach(model, **OPTIONS)
    for _ in range(2):
        ours = step()
        loss, gradients = families.differences(ours, plain)
        assert loss <= 1e-4 and gradients <= 3e-2
        loss, gradients = families.differences(ours, exact)
        assert loss <= max(2 * rounding[0], 1e-4) and gradients <= 1.5 * rounding[1]
    attachment.plan.save(str(tmp_path / "plan.json"))
    rows = {c["name"]: c["row_bytes"] for c in json.loads((tmp_path / "plan.json").read_text())["profile"]["flow"]["classes"]}
    assert rows["x"] == 4 * model.config.hidden_size  # bytes
    assert rows["o"] == 2 * model.config.num_attention_heads * 16  # head_dim


def test_evaluation_and_generation_are_the_model_s_own(ids):
    model = families.make("llama")

    def look():
        model.eval()
        tokens = model.generate(ids[:, :9], max_new_tokens=8, do_sample=False, pad_token_id=0)
        loss = model(input_ids=ids, labels=ids).loss.item()
        model.train()
        with torch.no_grad():
            return tokens.tolist(), loss, model(input_ids=ids).logits.tolist()

    plain = look()
    with memo.attached(model, **OPTIONS):
        model(input_ids=ids, labels=ids).loss.backward()
        assert look() == plain


def test_gradient_checkpointing_is_turned_off_with_a_note(ids):
    model = families.make("llama")
    model.gradient_checkpointing_enable()
    with memo.attached(model, **OPTIONS), pytest.warns(UserWarning, match="gradient_checkpointing"):
        model(input_ids=ids, labels=ids).loss.backward()


def test_a_step_whose_backward_comes_too_late_is_refused(ids):
    model = families.make("llama")
    with memo.attached(model, **OPTIONS):
        first = model(input_ids=ids, labels=ids).loss
        model(input_ids=ids, labels=ids)
        with pytest.raises(RuntimeError, match="ran forward again before backward"):
            first.backward()
        model(input_ids=ids, labels=ids).loss.backward()  # and nothing is stuck
