"""Every family by token blocks against the plain model: loss, every gradient, and the model as it was afterwards."""

import families
import pytest
import torch

import memo

STRATEGIES = {"resident": {}, "recompute": {}, "offload": {"disk": "/var/tmp"}}


@pytest.mark.parametrize("family", families.CONFIGS)
def test_loss_and_gradients_are_the_plain_model_s(family, ids):
    model = families.make(family)
    plain = families.step(model, input_ids=ids, labels=ids)
    ours = {}
    for strategy, tier in STRATEGIES.items():
        with memo.attached(model, context=384, block=128, strategy=strategy, **tier) as attachment:
            ours[strategy] = families.step(model, input_ids=ids, labels=ids)
            assert attachment.departures == (0, [])
            if strategy == "offload":
                assert attachment.last["bytes_out"] > 0 and attachment.last["bytes_in"] > 0
        loss, gradients = families.differences(ours[strategy], plain)
        assert loss <= 1e-5 and gradients <= 1e-4
    # Wherever tensors were meanwhile, the same bits.
    for strategy in ("recompute", "offload"):
        assert ours[strategy][0] == ours["resident"][0]
        assert all(torch.equal(g, ours["resident"][1][name]) for name, g in ours[strategy][1].items())
    again = families.step(model, input_ids=ids, labels=ids)
    assert again[0] == plain[0] and all(torch.equal(g, plain[1][name]) for name, g in again[1].items())


def test_head_groups_and_kept_blocks_change_no_result_beyond_rounding(ids):
    model = families.make("llama")
    plain = families.step(model, input_ids=ids, labels=ids)
    for options in ({"head_groups": 2}, {"block": 64, "device_limit": "4.4MiB"}, {"block": 384}):
        with memo.attached(model, **{"context": 384, "block": 128} | options):
            assert max(families.differences(families.step(model, input_ids=ids, labels=ids), plain)) <= 1e-5


def test_weight_gradients_of_bfloat16_are_summed_in_float32(ids):
    exact = families.step(families.make("llama", torch.bfloat16).float(), input_ids=ids, labels=ids)
    model = families.make("llama", torch.bfloat16)
    floats = lambda step: (step[0], {name: g.float() for name, g in step[1].items()})
    plain = families.differences(floats(families.step(model, input_ids=ids, labels=ids)), exact)
    with memo.attached(model, context=384, block=64):
        ours = families.differences(floats(families.step(model, input_ids=ids, labels=ids)), exact)
    assert ours[1] <= 1.5 * plain[1]
