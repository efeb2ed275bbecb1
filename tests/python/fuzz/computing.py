"""What a user computes: steps, evaluation, generation, copies that are stepped. Each gives what is compared."""

import contextlib
import copy
import dataclasses
import io
import pickle

import torch
from fuzz import batches

import memo


@dataclasses.dataclass
class Seen:
    """close: tensors equal but for rounding. gradients: so too, and None where there is none. same: equal. told: tensors
    equal but for rounding, or None where the user is given none."""

    close: dict = dataclasses.field(default_factory=dict)
    gradients: dict = dataclasses.field(default_factory=dict)
    same: dict = dataclasses.field(default_factory=dict)
    told: dict = dataclasses.field(default_factory=dict)


def cross_entropy(logits, labels, smoothing=0.0):
    return torch.nn.functional.cross_entropy(logits[:, :-1].float().flatten(0, 1), labels[:, 1:].flatten(),
                                             label_smoothing=smoothing)


def smoothed_loss(logits, labels, vocab_size, **kwargs):
    """A loss function of a user's own."""
    return cross_entropy(logits, labels, smoothing=0.1)


def gradients(model):
    return {name: None if p.grad is None else p.grad.detach().clone() for name, p in model.named_parameters()}


@contextlib.contextmanager
def _around(twin, autocast, adapter):
    with contextlib.ExitStack() as stack:
        if autocast and twin.role != "exact":
            stack.enter_context(torch.autocast("cpu", dtype=torch.bfloat16))
        if not adapter and hasattr(twin.model, "disable_adapter"):
            stack.enter_context(twin.model.disable_adapter())
        yield


def _loss(twin, model, inputs, loss):
    """The loss as a trainer computes it, and what else is compared."""
    labels = inputs["labels"]
    if loss == "logits":
        logits = twin.call(model, {name: value for name, value in inputs.items() if name != "labels"}).logits
        return cross_entropy(logits, labels), {"logits": logits.detach()}
    if loss == "count":
        inputs = inputs | {"num_items_in_batch": torch.tensor(150)}
    if loss == "shifted":
        inputs = inputs | {"shift_labels": torch.nn.functional.pad(labels, (0, 1), value=-100)[:, 1:].contiguous()}
    if loss == "hidden":
        out = twin.call(model, inputs | {"output_hidden_states": True})
        return out.loss + out.hidden_states[-1].float().square().mean(), {
            f"hidden state {i}": hidden.detach() for i, hidden in enumerate(out.hidden_states)}
    out = twin.call(model, inputs)
    if loss == "outputs":  # as a trainer's own compute_loss
        if out.logits is None:
            raise memo.UnsupportedModel("memo: logits are None with labels")
        return cross_entropy(out.logits, labels), {"logits": out.logits.detach()}
    return out.loss, {}


def step(twin, seed, loss="model", backward="once", scale=1.0, autocast=False, adapter=True, embeddings=False, add=False,
         training=True, model=None, prefix="", **batch):
    """Forward and backward. loss: the "model"'s, with a "count" of items, "shifted" labels, of "logits", of the "outputs"
    of a call with labels, or with "hidden" states. backward: "once", "never", "twice", "kept" (twice, with retain_graph),
    "late" (after another forward), "grad" (torch.autograd.grad). add: to the gradients that are there. training: False: in
    the mode of evaluation."""
    model = twin.model if model is None else model
    if not add:
        model.zero_grad(set_to_none=True)
    model.train(training)
    try:
        value, close, found = _passes(twin, model, seed, loss, backward, scale, autocast, adapter, embeddings, batch)
    finally:
        model.train()
    close["loss"] = value.detach()
    found = {name: None if g is None else g.detach() for name, g in found.items()} or gradients(model)
    return Seen(close={prefix + name: value for name, value in close.items()},
                gradients={prefix + name: g for name, g in found.items()})


def _passes(twin, model, seed, loss, backward, scale, autocast, adapter, embeddings, batch):
    """The loss, what else is compared, and gradients that are not the parameters'."""
    with _around(twin, autocast, adapter):
        inputs = batches.make(seed, **batch, embeddings=twin.inner.get_input_embeddings() if embeddings else None)
        value, close = _loss(twin, model, inputs, loss)
        if backward == "late":
            twin.call(model, inputs)
    found = {}
    if backward == "grad":
        trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        found = dict(zip((name for name, _ in trained),
                         torch.autograd.grad(value * scale, [p for _, p in trained], allow_unused=True)))
    elif backward != "never":
        (value * scale).backward(retain_graph=backward == "kept")
        if backward in ("twice", "kept"):
            (value * scale).backward()
    return value, close, found


def accumulate(twin, seed, lengths, **options):
    """Gradients of batches of these lengths, each divided by the labels of all of them."""
    twin.model.zero_grad(set_to_none=True)
    close = {}
    for i, tokens in enumerate(lengths):
        seen = step(twin, seed + i, tokens=tokens, add=True, **options)
        close |= {f"{name} {i}": value for name, value in seen.close.items()}
    return Seen(close=close, gradients=gradients(twin.model))


def evaluate(twin, seed, mode="eval", autocast=False, adapter=True, **batch):
    """Without gradients: in "eval" mode, with "no_grad" alone, or within "inference_mode"."""
    twin.model.train(mode == "no_grad")
    try:
        context = torch.inference_mode if mode == "inference_mode" else torch.no_grad
        with _around(twin, autocast, adapter), context():
            out = twin.call(twin.model, batches.make(seed, **batch))
    finally:
        twin.model.train()
    return Seen(same={"logits": out.logits.clone(), "loss": getattr(out, "loss", None)})


def generate(twin, seed, tokens, new):
    twin.model.eval()
    try:
        made = twin.model.generate(input_ids=batches.make(seed, tokens)["input_ids"], max_new_tokens=new, do_sample=False,
                                   pad_token_id=0)
    finally:
        twin.model.train()
    return Seen(same={"tokens": made})


def read_logits(twin, seed, how, **batch):
    """Of a call with labels, by "attribute", "key", "get", "index" or from a "tuple"."""
    inputs = batches.make(seed, **batch)
    with torch.enable_grad():
        out = twin.call(twin.model, inputs | ({"return_dict": False} if how == "tuple" else {}))
    read = {"attribute": lambda: out.logits, "key": lambda: out["logits"], "get": lambda: out.get("logits"),
            "index": lambda: out[1], "tuple": lambda: out[1]}[how]
    try:
        logits = read()
    except (AttributeError, KeyError, IndexError, memo.UnsupportedModel):
        logits = None
    return Seen(told={"logits": logits.detach() if isinstance(logits, torch.Tensor) else None})


def _copied(model, how):
    if how == "deepcopy":
        return copy.deepcopy(model)
    if how == "pickle":
        return pickle.loads(pickle.dumps(model))
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def copy_model(twin, seed, how="deepcopy", keep=False, **batch):
    """Copies the model (by "deepcopy", "pickle" or "torch.save"), changes a weight of the copy, and steps it. keep: it is
    the model from now on."""
    made = _copied(twin.model, how)
    with torch.no_grad():
        next(p for p in made.parameters() if p.dim() == 2).mul_(1.5)
    seen = step(twin, seed, model=made, prefix="of the copy: ", **batch)
    if keep:
        twin.model, twin.attached_to, twin.handles = made, None, []
        twin.forget_optimizer()
    return seen


def copy_module(twin, seed, module):
    """Copies a module (the head, a layer's mlp), makes its weights 0, and calls the copy."""
    original = twin.inner.get_output_embeddings() if module == "head" else twin.modules(module)[0]
    made = copy.deepcopy(original)
    with torch.no_grad():
        for p in made.parameters():
            p.zero_()
        x = torch.randn(1, 5, twin.inner.config.hidden_size, generator=torch.Generator().manual_seed(seed))
        y = made(x.to(next(made.parameters()).dtype))
    return Seen(same={"output": y})
