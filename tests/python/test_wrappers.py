"""Wrappers of Accelerate, PEFT, DDP and torch.compile, put on and taken off in any order around attach and detach: every model
computes what the plain one does that had the same done to it."""

import inspect
import itertools
import sys
from pathlib import Path

import accelerate
import families
import peft
import pytest
import torch
from accelerate.state import AcceleratorState

import memo

OPTIONS = dict(context=384, block=128, strategy="recompute")


@pytest.fixture(autouse=True)
def no_precision_of_other_tests():
    """Accelerate's state is the process's: trainers of other tests choose another precision."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def attributes(model):
    return {name: dict(module.__dict__) for name, module in model.named_modules()}


def step(model, **inputs):
    loss, gradients = families.step(model, **inputs)
    clean = lambda name: name.replace("module.", "").replace("_orig_mod.", "")
    return loss, {clean(name): gradient for name, gradient in gradients.items()}


class Accelerated:
    """Accelerate's mixed precision replaces the model's forward."""

    def __init__(self):
        self.accelerator = accelerate.Accelerator(cpu=True, mixed_precision="bf16")

    def on(self, model):
        return self.accelerator.prepare(model)

    def off(self, model):
        return self.accelerator.unwrap_model(model, keep_fp32_wrapper=False)


class Compiled:
    def __init__(self):
        torch._dynamo.reset()

    def on(self, model):
        return torch.compile(model, backend="aot_eager")

    def off(self, model):
        return model._orig_mod


class Replicated:
    def __init__(self):
        if not torch.distributed.is_initialized():
            torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)

    def on(self, model):
        return torch.nn.parallel.DistributedDataParallel(model)

    def off(self, model):
        return model.module


class Adapted:
    """LoRA on the head, and everything trained."""

    def on(self, model):
        torch.manual_seed(7)
        adapter = peft.LoraConfig(r=4, target_modules=["lm_head"], init_lora_weights="gaussian")
        return peft.get_peft_model(model, adapter).requires_grad_(True)

    def off(self, model):
        return model.merge_and_unload()


class Attached:
    def on(self, model):
        memo.attach(model, **OPTIONS)
        return model

    def off(self, model):
        memo.detach(model)
        return model


@pytest.fixture(autouse=True)
def no_process_group():
    yield
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


ORDERS = ["AWwa", "AWaw", "WAwa", "WAaw"]  # A, a: attached, detached; W, w: the wrapper put on, taken off


def rows():
    """Every wrapper in every order; of Compiled, which takes seconds, one order but in make test-all."""
    for wrapper in (Accelerated, Compiled, Replicated, Adapted):
        for order in ORDERS:
            yield pytest.param(wrapper, order, marks=[pytest.mark.slow] if wrapper is Compiled and order != "AWaw" else [])


@pytest.mark.parametrize("wrapper, order", list(rows()))
def test_a_wrapper(wrapper, order, ids):
    def run(with_memo):
        model, its, ours = families.make("llama"), wrapper(), Attached()
        before, results = attributes(model), []
        for change in order:
            if change in "Ww":
                model = its.on(model) if change == "W" else its.off(model)
            elif with_memo:
                model = ours.on(model) if change == "A" else ours.off(model)
            results.append(step(model, input_ids=ids, labels=ids))
        left = {name: set(values) ^ set(before[name]) for name, values in attributes(model).items()}
        return results, left

    plain, left_by_it = run(False)
    ours, left = run(True)
    assert left.keys() == left_by_it.keys()
    assert all(names <= left_by_it[name] | {"_output_capturing_hooks_installed"} for name, names in left.items())
    bound = 1e-5 if wrapper is not Accelerated else 3e-2
    for a, b in zip(ours, plain):
        loss, gradients = families.differences(a, b)
        assert loss <= min(bound, 1e-4) and gradients <= bound


@pytest.mark.slow
def test_two_wrappers(ids):
    for order in itertools.permutations([Attached, Replicated, Compiled]):
        model, plain, on = families.make("llama"), families.make("llama"), []
        for kind in order:
            on.append(kind())
            model = on[-1].on(model)
        assert max(families.differences(step(model, input_ids=ids, labels=ids), step(plain, input_ids=ids, labels=ids))) <= 1e-5
        assert memo.attachment(model).last is not None
        memo.detach(model)
        torch.distributed.destroy_process_group()


def test_a_wrapped_model_is_not_attached_twice():
    model = families.make("llama")
    memo.attach(model, **OPTIONS)
    with pytest.raises(ValueError, match="attached already"):
        memo.attach(torch.nn.parallel.DataParallel(model), **OPTIONS)
    memo.detach(torch.nn.Sequential(model))


@pytest.mark.parametrize("order", ORDERS)
def test_accelerate_around_a_model_whose_own_forward_is_memo_s(order):
    """A model that runs its layers itself: both replace its forward."""
    sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))
    import own_model

    ids = torch.randint(256, (1, 384), generator=torch.Generator().manual_seed(3))

    def run(with_memo):
        torch.manual_seed(0)
        model, its, results = own_model.GPT(), Accelerated(), []
        for change in order:
            if change in "Ww":
                model = its.on(model) if change == "W" else its.off(model)
            elif with_memo and change == "A":
                memo.attach(model, context=384, block=128, strategy="recompute", layers="blocks",
                            example=lambda tokens: (torch.zeros(1, tokens, dtype=torch.long),))
            elif with_memo:
                memo.detach(model)
            assert (
                list(inspect.signature(model.forward).parameters)[:1]
                == list(inspect.signature(own_model.GPT.forward).parameters)[1:2]
            )
            model.zero_grad(set_to_none=True)
            loss = model(ids).float().square().mean()
            loss.backward()
            results.append((loss.item(), {name: p.grad.clone() for name, p in model.named_parameters()}))
            done = order[:order.index(change) + 1]
            if with_memo and "A" in done and "a" not in done:
                assert memo.attachment(model).last is not None
        return results, model

    plain, _ = run(False)
    ours, model = run(True)
    assert all("forward" not in module.__dict__ for name, module in model.named_modules() if name)
    assert getattr(model.forward, "__func__", None) is own_model.GPT.forward
    for a, b in zip(ours, plain):
        loss, gradients = families.differences(a, b)
        assert loss <= 1e-4 and gradients <= 3e-2
