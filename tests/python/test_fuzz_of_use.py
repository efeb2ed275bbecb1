"""Sequences of what users do, attached and plain: every number the same, or refused by name. scripts/fuzz_use runs others."""

import os

import pytest
import torch
from fuzz import Difference, Pair, running
from fuzz.drawing import Sequence, draw

import memo


@pytest.mark.parametrize("seed", [*range(6), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(6, 20))])
def test_what_users_do_gives_what_the_plain_model_gives(seed):
    sequence = draw(seed)
    verdict = running.run(sequence)
    if verdict.bad:
        pytest.fail(f"seed {seed}: {verdict}\n\nfrom fuzz import Pair\n{sequence.script()}", pytrace=False)


def attached(**options):
    pair = Pair("llama", **options)
    pair.attach(context=256, block=64)
    return pair


def scale_gradient(pair, weight, factor):
    def scale(p):
        p.grad.mul_(factor)

    pair.attached.model.get_parameter(weight).register_post_accumulate_grad_hook(scale)


@pytest.mark.parametrize("weight", ["model.layers.1.mlp.down_proj.weight", "model.norm.weight", "model.embed_tokens.weight"])
def test_a_gradient_that_is_off_by_a_thousandth_is_found(weight):
    pair = attached(exact=False)
    pair.step(tokens=100)
    scale_gradient(pair, weight, 1.001)
    with pytest.raises(Difference, match=f"1 of 30 gradients: {weight}"):
        pair.step(tokens=100)


def test_in_bfloat16_the_plain_model_s_rounding_is_the_bound():
    pair = attached()
    pair.step(tokens=100, autocast=True)
    scale_gradient(pair, "model.layers.1.mlp.down_proj.weight", 1.1)
    with pytest.raises(Difference, match="of its norm from float32, the plain model"):
        pair.step(tokens=100, autocast=True)


def test_masks_of_dropout_are_the_same_for_both_and_for_what_is_computed_again():
    for dropout in (0.0, 0.3):
        pair = Pair("gpt2", dropout=dropout, exact=False)
        pair.step(tokens=100)
        pair.checkpointing(on=True)
        pair.step(tokens=100)


def test_weights_that_are_not_the_same_to_the_bit_are_found():
    pair = attached(exact=False)
    with torch.no_grad():
        pair.attached.model.model.norm.weight[0] += 1e-7
    with pytest.raises(Difference, match="model.norm.weight"):
        pair.unfreeze()


def test_what_is_refused_by_name_is_written_down_and_runs_detached(monkeypatch):
    def refuse(*args, **kwargs):
        raise memo.UnsupportedModel(text)

    for text, named in (("model.layers.0 (LlamaDecoderLayer): not today", True), ("not today", False),
                        ("model.layers.0 (LlamaDecoderLayer): KeyError: 'today'", False)):
        pair = attached(exact=False)
        monkeypatch.setattr(memo.attachment(pair.attached.model)._kind, "prepare_call", refuse)
        if named:
            pair.step(tokens=100)
            assert pair.refusals == [f"step: {text}"] and pair.attached.attached_to is None
        else:
            with pytest.raises(Difference, match="raises UnsupportedModel: .*; the plain model nothing"):
                pair.step(tokens=100)


class Fatal:
    """Ends the process that it is sent to."""

    def __reduce__(self):
        return os.abort, ()


def test_a_signal_is_a_verdict():
    verdict = running.run(Sequence({"family": "llama"}, [("step", {"tokens": Fatal()})]))
    assert verdict.kind == "signal" and str(verdict) == "signal at call 1, step: SIGABRT"


def test_the_shortest_sequence_that_shows_a_difference_is_found(monkeypatch):
    def run(sequence):
        given = dict(sequence.calls)
        bad = given.get("lora", {}).get("dora") and "step" in given
        return (
            running.Verdict("different", f"loss: {len(given)}", at=len(given) - 1, action="step")
            if bad
            else running.Verdict("ok")
        )

    monkeypatch.setattr(running, "run", run)
    calls = [("unfreeze", {}), ("lora", {"dora": True, "layers": [2]}), ("cast", {"dtype": "bfloat16"}),
             ("step", {"tokens": 9, "rows": 2})]
    sequence, verdict = running.shorter(Sequence({"family": "gpt2"}, calls), run(Sequence({}, calls)))
    assert sequence.calls == [("lora", {"dora": True}), ("step", {"tokens": 9})] and verdict.at == 1
