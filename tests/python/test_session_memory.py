"""The memory that sessions use in turn is not given away while someone may still look at it. (That it is taken once is tested on
a GPU: test_users_on_a_gpu.py.)"""

import gc

import families
import pytest
import torch

import memo

OPTIONS = dict(context=512, block=64, check=False)


class Own(Exception):
    pass


def step(model, ids):
    return families.step(model, input_ids=ids, labels=ids)


def equal(one, other):
    return one[0] == other[0] and all(torch.equal(g, other[1][name]) for name, g in one[1].items())


@pytest.mark.parametrize("strategy", ["resident", "offload"])
def test_a_step_that_may_go_on_keeps_its_memory(strategy, ids):
    """Of two lengths, each forward before either backward."""
    model = families.make("llama")
    with memo.attached(model, strategy=strategy, disk="/var/tmp", **OPTIONS):
        right = {n: step(model, ids[:, :n]) for n in (377, 100)}
        loss = model(input_ids=ids, labels=ids).loss
        assert equal(step(model, ids[:, :100]), right[100])
        model.zero_grad(set_to_none=True)
        loss.backward()
        assert all(torch.equal(p.grad, right[377][1][name]) for name, p in model.named_parameters())
        assert equal(step(model, ids[:, :100]), right[100])


@pytest.mark.parametrize("where", ["in forward", "in backward"])
def test_what_an_exception_keeps_of_a_step_is_not_written_by_the_next(where, ids):
    """Nor does it end the process when it is collected after the model was detached."""
    model, kept, failing = families.make("llama"), [], []

    def fail(tensor):
        kept.append(tensor)
        raise Own

    def look(module, given, out):
        if failing and where == "in forward":
            fail(out)
        if failing and out.requires_grad:
            out.register_hook(fail)

    model.model.layers[1].mlp.act_fn.register_forward_hook(look)
    with memo.attached(model, **OPTIONS):
        right = {n: step(model, ids[:, :n]) for n in (377, 100)}
        failing.append(True)
        with pytest.raises(Own) as raised:
            model(input_ids=ids, labels=ids).loss.backward()
        failing.clear()
        values = [one.detach().clone() for one in kept]
        assert values
        for n in (100, 377, 100):
            assert equal(step(model, ids[:, :n]), right[n])
        assert all(map(torch.equal, (one.detach() for one in kept), values))
    del raised
    kept.clear()
    gc.collect()
