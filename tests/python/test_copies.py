"""Copies of attached models and of their parts are plain: they run their own weights, and know nothing of memo."""

import copy
import gc
import io
import os
import pickle
import pickletools
import subprocess
import sys
import weakref
import zipfile

import families
import pytest
import torch
import trl

import memo

OPTIONS = dict(context=384, block=128, strategy="recompute")


def saved(module):
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


COPIES = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
    "torch.save": saved,
    "AveragedModel": lambda model: torch.optim.swa_utils.AveragedModel(model).module,
    "create_reference_model": trl.create_reference_model,
}


@pytest.mark.parametrize("copied", COPIES)
def test_a_copy_is_plain_and_the_original_stays_attached(copied, ids):
    model = families.make("llama")
    plain = families.step(model, input_ids=ids, labels=ids)
    with memo.attached(model, **OPTIONS) as attachment:
        families.step(model, input_ids=ids, labels=ids)
        model.zero_grad(set_to_none=True)
        other = COPIES[copied](model)
        assert all(name in ours.__dict__ or name == "__getstate__" for ours, its in zip(model.modules(), other.modules())
                   for name in its.__dict__)
        assert all("forward" not in module.__dict__ for module in other.modules())
        with pytest.raises(ValueError, match="not attached"):
            memo.detach(other)
        other.train().requires_grad_(True)
        loss, gradients = families.step(other, input_ids=ids, labels=ids)
        assert loss == plain[0] and all(torch.equal(g, plain[1][name]) for name, g in gradients.items())
        assert all(p.grad is None for p in model.parameters())
        assert max(families.differences(families.step(model, input_ids=ids, labels=ids), plain)) <= 1e-5
        assert memo.attachment(model) is attachment and attachment.last is not None


def test_a_copied_model_is_attached_by_itself(ids):
    model = families.make("llama")
    plain = families.step(model, input_ids=ids, labels=ids)
    with memo.attached(model, **OPTIONS):
        with memo.attached(copy.deepcopy(model), **OPTIONS) as other:
            families.step(other.model, input_ids=ids, labels=ids)
        assert max(families.differences(families.step(model, input_ids=ids, labels=ids), plain)) <= 1e-5


def test_a_shallow_copy_is_plain(ids):
    model = families.make("llama")
    with memo.attached(model, **OPTIONS):
        for module in model.modules():
            other = copy.copy(module)
            assert "forward" not in other.__dict__ and "__getstate__" not in other.__dict__
        layer = copy.copy(model.lm_head)
        layer._parameters = {"weight": torch.nn.Parameter(torch.zeros_like(model.lm_head.weight)), "bias": None}
        assert not layer(torch.randn(2, 64)).any()


@pytest.mark.parametrize("copied", [copy.deepcopy, saved])
@pytest.mark.parametrize("name", ["lm_head", "model", "model.layers.1"])
def test_a_copied_part_runs_its_own_weights(name, copied, ids):
    model = families.make("llama")
    arguments = []
    part = model.get_submodule(name)
    hook = part.register_forward_pre_hook(lambda module, args, kwargs: arguments.append((args, kwargs)), with_kwargs=True)
    model(input_ids=ids, use_cache=False)
    hook.remove()
    args, kwargs = arguments[0]
    first = lambda out: out[0] if isinstance(out, tuple) else getattr(out, "last_hidden_state", out)
    with memo.attached(model, **OPTIONS):
        other = copied(part)
        with torch.no_grad():
            for parameter in other.parameters():
                parameter.mul_(0.5)
        with memo.attached(families.make("llama"), **OPTIONS) as changed:
            pass
        theirs = changed.model.get_submodule(name)
        theirs.load_state_dict(other.state_dict())
        assert torch.equal(first(other(*args, **kwargs)), first(theirs(*args, **kwargs)))


def test_a_saved_model_is_read_where_there_is_no_memo(tmp_path):
    model = families.make("llama")
    with memo.attached(model, **OPTIONS):
        torch.save(model, tmp_path / "model.pt")
    with zipfile.ZipFile(tmp_path / "model.pt") as file:  # torch.load imports the modules that data.pkl names
        code = file.read("model/data.pkl")
    names = [name for operation, name, _ in pickletools.genops(code) if isinstance(name, str)]
    assert any(name.startswith("transformers.") for name in names)
    assert not [name for name in names if name.split(" ")[0].split(".")[0] == "memo"]


def test_what_copying_refuses_without_memo_it_refuses():
    model = families.make("llama")
    torch.nn.utils.parametrizations.weight_norm(model.lm_head)
    with memo.attached(model, **OPTIONS), pytest.raises(RuntimeError, match="parametrized modules is only supported"):
        pickle.dumps(model)


@pytest.mark.parametrize("until", ["attached", "a forward", "a step", "detached"])
def test_a_model_that_nobody_holds_is_gone(until, ids):
    """Its memory, too: the executor's references are seen by Python's collector."""
    model = families.make("llama")
    memo.attach(model, **OPTIONS)
    if until != "attached":
        loss = model(input_ids=ids, labels=ids).loss
        if until != "a forward":
            loss.backward()
        del loss
    if until == "detached":
        memo.detach(model)
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None


@pytest.mark.slow
def test_a_process_may_end_with_an_attached_model():
    """After each of three beginnings, in a child of a process that has imported all of it once."""
    script = """
import os, families, memo, torch
families.make("llama")
for until in "attached", "a forward", "a step":
    child = os.fork()
    if child == 0:
        model, ids = families.make("llama"), torch.ones(1, 300, dtype=torch.long)
        memo.attach(model, context=384, block=128)
        if until != "attached":
            loss = model(input_ids=ids, labels=ids).loss
        if until == "a step":
            loss.backward()
        break
    assert os.waitpid(child, 0)[1] == 0, until
"""
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(path for path in sys.path if path))
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment)
    assert ended.returncode == 0, ended.stderr
