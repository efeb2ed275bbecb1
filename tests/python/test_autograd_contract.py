"""What autograd promises holds through layers that run by a plan: hooks, exceptions, graphs that are kept."""

import families
import greenlet
import pytest
import torch

import memo
from memo import block_greenlet

OPTIONS = dict(context=512, block=128)


class Own(Exception):
    pass


@pytest.mark.parametrize("when", ["before attach", "after attach"])
def test_a_hook_of_a_parameter_is_called_once_with_the_whole_gradient(when, ids):
    def hooked(model):
        calls = []
        for name, p in model.named_parameters():
            p.register_hook(lambda g, name=name: calls.append(name) or 2 * g)
        return calls

    model, plain = families.make("llama"), families.make("llama")
    calls = hooked(model) if when == "before attach" else None
    hooked(plain)
    with memo.attached(model, **OPTIONS):
        if calls is None:
            calls = hooked(model)
        for _ in range(2):
            calls.clear()
            ours = families.step(model, input_ids=ids, labels=ids)
            assert max(families.differences(ours, families.step(plain, input_ids=ids, labels=ids))) <= 1e-5
            assert sorted(calls) == sorted(name for name, _ in model.named_parameters())


def test_hooks_behind_the_sum_of_gradients(ids):
    model, seen = families.make("llama"), []
    plain = families.step(model, input_ids=ids, labels=ids)
    for name, p in model.named_parameters():
        p.register_post_accumulate_grad_hook(lambda p, name=name: seen.append((name, p.grad.clone())))
    with memo.attached(model, **OPTIONS):
        families.step(model, input_ids=ids, labels=ids)
    assert len(seen) == len(plain[1])
    for name, gradient in seen:
        assert (gradient - plain[1][name]).norm() <= 1e-5 * plain[1][name].norm()


class FailsInBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, kind):
        ctx.kind = kind
        return x.clone()

    @staticmethod
    def backward(ctx, d):
        raise ctx.kind("in backward")


@pytest.mark.parametrize("kind", [Own, KeyboardInterrupt, RuntimeError, ValueError, StopIteration])
@pytest.mark.parametrize("where", ["before attention", "behind attention", "in backward"])
def test_an_exception_arrives_as_itself_and_the_next_step_is_right(kind, where, ids):
    model = families.make("llama")
    plain = families.step(model, input_ids=ids, labels=ids)
    layer, failing = model.model.layers[1], []

    def fail(module, args, out):
        if not failing:
            return out
        if where == "in backward":
            return FailsInBackward.apply(out, kind)
        raise kind("mine")

    module = layer.input_layernorm if where == "before attention" else layer.mlp
    module.register_forward_hook(fail)
    with memo.attached(model, **OPTIONS):
        for _ in range(2):
            assert max(families.differences(families.step(model, input_ids=ids, labels=ids), plain)) <= 1e-5
            failing.append(True)
            with pytest.raises(kind) as raised:
                model(input_ids=ids, labels=ids).loss.backward()
            assert any("model.layers.1" in note for note in getattr(raised.value, "__notes__", ["model.layers.1"]))
            failing.clear()
        assert max(families.differences(families.step(model, input_ids=ids, labels=ids), plain)) <= 1e-5


def test_an_exception_while_attaching_arrives_as_itself(ids):
    model = families.make("llama")

    def fail(*args):
        raise Own("mine")

    handle = model.model.layers[1].mlp.register_forward_hook(fail)
    with pytest.raises(Own):
        memo.attach(model, **OPTIONS)
    handle.remove()
    plain = families.step(model, input_ids=ids, labels=ids)
    with memo.attached(model, **OPTIONS):
        assert max(families.differences(families.step(model, input_ids=ids, labels=ids), plain)) <= 1e-5


def test_a_second_backward_is_one_clear_line(ids):
    model = families.make("llama")
    with memo.attached(model, **OPTIONS):
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward(retain_graph=True)
        with pytest.raises(RuntimeError, match="second time") as raised:
            loss.backward()
        assert "\n" not in str(raised.value)
        model(input_ids=ids, labels=ids).loss.backward()


def test_a_forward_without_its_backward_and_gradients_of_some(ids):
    model = families.make("llama")
    plain = families.step(model, input_ids=ids, labels=ids)
    with memo.attached(model, **OPTIONS):
        model(input_ids=ids, labels=ids)
        last = model.model.layers[-1].mlp.down_proj.weight
        gradient, = torch.autograd.grad(model(input_ids=ids, labels=ids).loss, [last])
        of_plain = plain[1]["model.layers.2.mlp.down_proj.weight"]
        assert (gradient - of_plain).norm() <= 1e-5 * of_plain.norm()
        assert max(families.differences(families.step(model, input_ids=ids, labels=ids), plain)) <= 1e-5


def test_a_block_that_is_ended_within_another_one_disturbs_nothing():
    """As where the garbage collector finds a session there, of a step that failed."""
    waiting = block_greenlet.BlockGreenlet(lambda: greenlet.getcurrent().parent.switch())
    waiting.switch()
    running = block_greenlet.BlockGreenlet(lambda: waiting.end() or "mine")
    assert running.switch() == "mine" and waiting.dead and running.dead


@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_a_loss_that_fails_leaves_nothing_to_the_next_step(family, ids):
    model = families.make(family)
    plain = families.step(model, input_ids=ids, labels=ids)
    with memo.attached(model, context=384, block=64):
        with pytest.raises(IndexError):
            model(input_ids=ids[:, :275], labels=ids[:, :275] + 1000)
        assert max(families.differences(families.step(model, input_ids=ids, labels=ids), plain)) <= 1e-5


@pytest.mark.parametrize("when", ["before attach", "after attach"])
def test_layers_whose_gradients_nobody_wants_have_no_backward(when, ids):
    """Nor while they are looked at and planned: what users hang into their backward is not called."""
    model, asked = families.make("llama"), []

    def freeze_and_hook():
        model.model.embed_tokens.requires_grad_(False)
        for i, layer in enumerate(model.model.layers):
            if i < 2:
                layer.requires_grad_(False)
            layer.mlp.register_forward_hook(lambda module, given, output, i=i: asked.append(i) if output.requires_grad else None)

    if when == "before attach":
        freeze_and_hook()
    with memo.attached(model, **OPTIONS):
        if when == "after attach":
            freeze_and_hook()
        families.step(model, input_ids=ids, labels=ids)
    assert set(asked) == set(range(2, len(model.model.layers)))


def test_hooks_of_parameters_under_autocast(ids):
    """A parameter with a hook is cast before blocks meet it, as others are."""
    model, plain = families.make("llama"), families.make("llama")
    with memo.attached(model, **OPTIONS):
        for p in (*model.parameters(), *plain.parameters()):
            p.register_hook(lambda g: 2 * g)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            ours = families.step(model, input_ids=ids, labels=ids)
            theirs = families.step(plain, input_ids=ids, labels=ids)
    assert max(families.differences(ours, theirs)) <= 3e-2


@pytest.mark.parametrize("changed", [lambda model: model.eval(), lambda model: model.model.layers[0].mlp.requires_grad_(False)])
def test_layers_that_change_between_forward_and_backward_are_refused(changed, ids):
    """What is computed again would not be what forward computed, without a word."""
    model = families.make("llama")
    with memo.attached(model, strategy="recompute", **OPTIONS):
        loss = model(input_ids=ids, labels=ids).loss
        changed(model)
        with pytest.raises(RuntimeError, match="memo: layers were changed between forward and backward"):
            loss.backward()
        model.train().requires_grad_(True)
        model(input_ids=ids, labels=ids).loss.backward()
