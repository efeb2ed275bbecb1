"""What an attached model gives: logits that are logits however they are asked for, losses and gradients that are the plain
model's for any labels, any loss and any head."""

import families
import peft
import pytest
import torch
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

import memo

OPTIONS = dict(context=384, block=128, strategy="recompute")


def result(model, loss):
    model.zero_grad(set_to_none=True)
    value = loss(model)
    value.backward()
    return value.item(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def check(model, loss, bound=1e-5):
    """That `loss` of the model and its gradients are the same attached and not."""
    plain = result(model, loss)
    with memo.attached(model, **OPTIONS) as attachment:
        assert max(families.differences(result(model, loss), plain)) <= bound
        assert attachment.last is not None


# ---- labels

COUNTS = [None, 0, 5, 7.0, torch.tensor(0), torch.tensor(5), torch.tensor([5])]


def with_count(count, **inputs):
    return inputs if count is None else inputs | dict(num_items_in_batch=count)


@pytest.mark.parametrize("count", COUNTS)
def test_without_a_label_the_loss_is_the_plain_one_s_and_gradients_are_0(count, ids):
    inputs = with_count(count, input_ids=ids, labels=torch.full_like(ids, -100))
    loss = lambda model: model(**inputs).loss
    model = families.make("gemma2")
    plain = result(model, loss)
    assert all(not g.any() for g in plain[1].values())
    with memo.attached(model, **OPTIONS):
        ours = result(model, loss)
    assert torch.equal(torch.tensor(ours[0]).nan_to_num(-1), torch.tensor(plain[0]).nan_to_num(-1))
    assert ours[1].keys() == plain[1].keys() and all(not g.any() for g in ours[1].values())


def test_a_step_without_a_label_leaves_weights_as_they_are(ids):
    model = families.make("llama")
    with memo.attached(model, **OPTIONS):
        model(input_ids=ids, labels=torch.full_like(ids, -100)).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        torch.optim.SGD(model.parameters(), lr=1.0).step()
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), families.make("llama").parameters()))


@pytest.mark.parametrize("count", [5, 7.0, torch.tensor(5), torch.tensor([5])])
def test_the_number_of_items_in_the_batch(count, ids):
    check(families.make("llama"), lambda model: model(input_ids=ids, labels=ids, num_items_in_batch=count).loss)


@pytest.mark.parametrize("label", [97, 1000, -1, -101])
def test_labels_out_of_range_are_refused_as_without_memo(label, ids):
    labels = ids.clone()
    labels[0, 100] = label
    model = families.make("llama")
    with pytest.raises(IndexError) as plain:
        model(input_ids=ids, labels=labels)
    with memo.attached(model, **OPTIONS):
        with pytest.raises(IndexError) as ours:
            model(input_ids=ids, labels=labels)
        assert str(ours.value) == str(plain.value)
        model(input_ids=ids, labels=ids).loss.backward()  # and nothing is stuck


def test_labels_of_another_dtype_are_refused_as_without_memo(ids):
    model = families.make("llama")
    with pytest.raises(RuntimeError) as plain:
        model(input_ids=ids, labels=ids.int())
    with memo.attached(model, **OPTIONS), pytest.raises(RuntimeError) as ours:
        model(input_ids=ids, labels=ids.int())
    assert str(ours.value) == str(plain.value)


@pytest.mark.parametrize("ignored", [3, -1, 96])
def test_another_label_is_ignored(ignored, ids):
    labels = ids.masked_fill(ids < 20, ignored)
    check(families.make("llama"), lambda model: model(input_ids=ids, labels=labels, ignore_index=ignored).loss)


def test_shifted_labels(ids):
    shifted = F.pad(ids, (0, 1), value=-100)[:, 1:].contiguous()
    check(families.make("llama"), lambda model: model(input_ids=ids, labels=ids, shift_labels=shifted).loss)


def test_one_token():
    ids, model = torch.tensor([[5]]), families.make("llama")
    for layer in model.model.layers:  # a single score decides nothing
        layer.self_attn.q_proj.requires_grad_(False)
        layer.self_attn.k_proj.requires_grad_(False)
    check(model, lambda model: model(input_ids=ids, labels=ids, shift_labels=ids).loss)


# ---- logits

ASKED = {
    "attribute": lambda model, **inputs: model(**inputs).logits,
    "key": lambda model, **inputs: model(**inputs)["logits"],
    "get": lambda model, **inputs: model(**inputs).get("logits"),
    "values": lambda model, **inputs: dict(model(**inputs))["logits"],
    "tuple": lambda model, **inputs: next(t for t in model(**inputs).to_tuple() if t.dim() == 3),
    "return_dict": lambda model, **inputs: next(
        t for t in model(**inputs, return_dict=False) if torch.is_tensor(t) and t.dim() == 3
    ),
    "some": lambda model, **inputs: model(**inputs, logits_to_keep=5).logits,
    "head": lambda model, **inputs: model.lm_head(model.model(input_ids=inputs["input_ids"]).last_hidden_state),
}


@pytest.mark.parametrize("with_labels", [True, False], ids=["labels", "no labels"])
@pytest.mark.parametrize("family", ["llama", "gemma2", "granite", "mixtral"])
def test_logits_are_logits_however_they_are_asked_for(family, with_labels, ids):
    model = families.make(family)
    for name, ask in ASKED.items():
        inputs = dict(input_ids=ids) | (dict(labels=ids) if with_labels and name != "some" else {})
        plain = ask(model, **inputs).detach()
        with memo.attached(model, **OPTIONS):
            ours = ask(model, **inputs)
            assert (ours.shape, ours.dtype, ours.requires_grad) == (plain.shape, plain.dtype, True)
            assert torch.allclose(ours, plain, atol=1e-5)


def test_what_else_reads_logits(ids, tmp_path):
    model = families.make("llama")
    plain = model(input_ids=ids).logits.detach()
    with memo.attached(model, **OPTIONS):
        ask = lambda: model(input_ids=ids).logits
        assert torch.allclose(torch.tensor(ask().tolist()), plain, atol=1e-5)
        assert torch.allclose(torch.from_numpy(ask().detach().numpy()), plain, atol=1e-5)
        assert repr(ask())[:20] == repr(plain)[:20]
        torch.save(ask(), tmp_path / "logits.pt")
        assert torch.allclose(torch.load(tmp_path / "logits.pt"), plain, atol=1e-5)
        assert ask().data_ptr() != 0 and ask().untyped_storage().nbytes() == plain.nbytes
        hidden = model(input_ids=ids, labels=ids, output_hidden_states=True).hidden_states
        assert len(hidden) == 4 and torch.allclose(model.lm_head(hidden[-1]), plain, atol=1e-5)


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * 2

    @staticmethod
    def backward(ctx, d):
        assert ctx.saved_tensors[0].shape == d.shape
        return d * 2


def scaled_in_place(out, ids):
    logits = out.logits
    logits.div_(2)
    logits[:, :, 0] = -4
    return F.cross_entropy(logits[0, :-1], ids[0, 1:])


LOSSES = {  # of outputs and labels, as people write them
    "shifted": lambda out, ids: F.cross_entropy(
        out.logits[..., :-1, :].contiguous().view(-1, 97), ids[..., 1:].contiguous().view(-1)
    ),
    "module": lambda out, ids: torch.nn.CrossEntropyLoss(reduction="sum")(
        out["logits"][:, :-1].flatten(0, 1).float(), ids[0, 1:]
    ),
    "temperature": lambda out, ids: F.cross_entropy((out.logits / 0.7).view(-1, 97), ids[0]),
    "cap": lambda out, ids: F.cross_entropy((torch.tanh(out.logits / 3) * 3)[0], ids[0]),
    "other cap": lambda out, ids: F.cross_entropy((torch.tanh(out.logits / 3) * 4)[0], ids[0]),
    "some words": lambda out, ids: F.cross_entropy(out.logits[..., :-1, 10:][0], (ids[0, 1:] - 10).clamp(0)),
    "last words": lambda out, ids: F.cross_entropy(out.logits[:, :, 10:, ...][0], (ids[0] - 10).clamp(0)),
    "of the model, and more": lambda out, ids: out.loss + 1e-3 * out.logits.logsumexp(-1).square().mean(),
    "weights": lambda out, ids: F.cross_entropy(out.logits[0], ids[0], weight=torch.linspace(0, 1, 97)),
    "smoothed": lambda out, ids: F.cross_entropy(out.logits[0], ids[0], label_smoothing=0.1),
    "each": lambda out, ids: F.cross_entropy(out.logits[0], ids[0], reduction="none").square().mean(),
    "soft labels": lambda out, ids: F.cross_entropy(out.logits[0], F.one_hot(ids[0], 97).float()),
    "log_softmax": lambda out, ids: -out[1].log_softmax(-1).gather(2, ids[..., None]).mean(),
    "distillation": lambda out, ids: F.kl_div(F.log_softmax(out.logits, -1), torch.full((97,), 1 / 97), reduction="batchmean"),
    "preference": lambda out, ids: -F.logsigmoid(out.logits[0, :9].sum() - out.logits[0, 9:20].sum()),
    "in place": scaled_in_place,
    "a function": lambda out, ids: Doubled.apply(out.logits).square().mean(),
    "a function of a view": lambda out, ids: Doubled.apply(out.logits.view(-1, 97)[:50]).square().mean(),
    "Trainer's smoother": lambda out, ids: __import__("transformers").trainer_pt_utils.LabelSmoother(0.1)(
        out, ids, shift_labels=True
    ),
}


@pytest.mark.parametrize("loss", LOSSES)
def test_a_loss_of_one_s_own_has_the_plain_gradients(loss, ids):
    check(families.make("llama"), lambda model: LOSSES[loss](model(input_ids=ids, labels=ids), ids))


def test_a_loss_of_one_s_own_under_autocast(ids):
    def loss(model):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = model(input_ids=ids, labels=ids).logits
        assert logits.dtype == torch.bfloat16
        return F.cross_entropy(logits.float()[0, :-1], ids[0, 1:]) + 0.01 * logits.float().square().mean()

    check(families.make("llama"), loss, bound=3e-2)


def test_logits_are_looked_at_after_backward_but_not_after_the_weights_have_changed(ids):
    model = families.make("llama")
    plain = model(input_ids=ids).logits.detach()
    with memo.attached(model, **OPTIONS):
        early, late = model(input_ids=ids, labels=ids), model(input_ids=ids, labels=ids)
        late.loss.backward()
        assert torch.allclose(early.logits, plain, atol=1e-5)
        torch.optim.AdamW(model.parameters(), lr=0.1).step()
        assert torch.allclose(early.logits, plain, atol=1e-5)
        with pytest.raises(RuntimeError, match=r"look at them before optimizer.step\(\)"):
            late.logits.argmax(-1)


def test_logits_with_another_view_are_not_changed_in_place(ids):
    model = families.make("llama")
    with memo.attached(model, **OPTIONS):
        out = model(input_ids=ids, labels=ids)
        rows = out.logits.view(-1, 97)
        for logits in (rows, out.logits):
            with pytest.raises(RuntimeError, match="logits = logits.clone"):
                logits.div_(2)


def test_the_gradient_of_logits(ids):
    model = families.make("llama")

    def watched(model):
        out, seen = model(input_ids=ids), []
        out.logits.register_hook(lambda d: seen.append(d) or 2 * d)
        out.logits.retain_grad()
        F.cross_entropy(out.logits.view(-1, 97), ids[0]).backward()
        assert torch.equal(seen[0] * 2, out.logits.grad)
        return out.logits.grad, model.lm_head.weight.grad.clone()

    plain = watched(model)
    model.zero_grad()
    with memo.attached(model, **OPTIONS):
        assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(watched(model), plain))
        with pytest.raises(RuntimeError, match="computed in tiles"):
            model(input_ids=ids, labels=ids).logits.retain_grad()


class Largest(TorchDispatchMode):
    """The most elements that a tensor as wide as the vocabulary has."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **kwargs or {})
        if torch.is_tensor(out) and out.dim() and out.shape[-1] in (97, 120) and out.device.type == "cpu":
            self.elements = max(self.elements, out.numel())
        return out


@pytest.mark.parametrize("change", ["resized", "another head", "modules_to_save"])
def test_a_head_that_came_later_makes_no_whole_logits_either(change, ids):
    model = families.make("llama")
    with memo.attached(model, **OPTIONS):
        CHANGES[change](model)
        model(input_ids=ids, labels=ids).loss.backward()
        labels = torch.randint(97, (2000,), generator=torch.Generator().manual_seed(6))
        with Largest() as largest:
            F.cross_entropy(model.lm_head(torch.randn(1, 2000, 64))[0], labels).backward()
        assert largest.elements <= 512 * 120


@pytest.mark.parametrize("loss", ["of the model", "shifted", "module", "temperature", "cap"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_cross_entropy_makes_no_whole_logits(loss, dtype):
    model = families.make("gemma2", dtype)
    ids = torch.randint(1, 97, (1, 2000), generator=torch.Generator().manual_seed(6))
    with memo.attached(model, **OPTIONS):
        hidden = torch.randn(1, 2000, 64, dtype=dtype, requires_grad=True)
        out = {"logits": model.lm_head(hidden)}
        out = type("Output", (dict,), {"logits": out["logits"]})(out)
        with Largest() as largest:
            if loss == "of the model":
                value = model.loss_function(logits=out.logits, labels=ids, vocab_size=97)
            else:
                value = LOSSES[loss](out, ids)
            value.backward()
    assert hidden.grad.any() and largest.elements <= 512 * 97


# ---- the model's loss and head

@pytest.mark.parametrize("when", ["before", "after"])
def test_a_loss_function_of_one_s_own_is_given_logits(when, ids):
    def mine(logits, labels, vocab_size, **kwargs):
        assert logits.shape == (1, 377, vocab_size)
        return (logits.float().softmax(-1) ** 2).sum(-1).mean() + F.mse_loss(logits[..., 0], labels.float() / 97)

    plain = families.make("llama")
    plain.loss_function = mine
    model = families.make("llama")
    if when == "before":
        model.loss_function = mine
    with memo.attached(model, **OPTIONS):
        model.loss_function = mine
        assert max(families.differences(families.step(model, input_ids=ids, labels=ids),
                                        families.step(plain, input_ids=ids, labels=ids))) <= 1e-5
    assert model.loss_function is mine


def test_where_the_vocabulary_is_as_wide_as_hidden_states(ids):
    model = families.make("llama", vocab_size=64)
    ids = ids % 64
    model.loss_function = lambda logits, labels, **kwargs: (logits.softmax(-1) ** 2).sum()
    check(model, lambda model: model(input_ids=ids, labels=ids).loss)


def doubling(model):
    class Own(type(model)):
        def forward(self, input_ids, labels=None, **kwargs):
            out = super().forward(input_ids=input_ids, **kwargs)
            out.loss = self.loss_function(logits=2 * out.logits + 1, labels=labels, vocab_size=97)
            return out
    model.__class__ = Own


def parametrized(model):
    torch.nn.utils.parametrizations.weight_norm(model.lm_head)


def with_bias(model):
    model.lm_head.bias = torch.nn.Parameter(torch.linspace(-1, 1, 97))


def another(model):
    torch.manual_seed(8)
    model.lm_head = torch.nn.Linear(64, 97)


def tied(model):
    model.lm_head.weight = model.model.embed_tokens.weight


def resized(model):
    torch.manual_seed(9)
    model.resize_token_embeddings(120)


def adapted(model, **options):
    torch.manual_seed(7)
    peft.get_peft_model(model, peft.LoraConfig(r=4, init_lora_weights="gaussian", **options)).requires_grad_(True)


CHANGES = {
    "forward": doubling,
    "parametrization": parametrized,
    "bias": with_bias,
    "another head": another,
    "tied": tied,
    "resized": resized,
    "frozen": lambda model: model.lm_head.requires_grad_(False),
    "LoRA": lambda model: adapted(model, target_modules=["lm_head"]),
    "modules_to_save": lambda model: adapted(model, target_modules=["embed_tokens"], modules_to_save=["lm_head"]),
    "hook": lambda model: model.lm_head.register_forward_hook(
        lambda module, args, out: out + module(args[0].detach()[..., :1].expand_as(args[0])) if not args[0].is_leaf else None
    ),
    "hook before": lambda model: model.lm_head.register_forward_pre_hook(lambda module, args: (args[0] * 2,)),
    "hook of gradients": lambda model: model.lm_head.register_full_backward_hook(
        lambda module, d_in, d_out: (d_in[0] * d_out[0].norm(),)
    ),
}


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("change", CHANGES)
def test_heads_of_every_kind(change, when, ids):
    changed = families.make("llama")
    CHANGES[change](changed)
    plain = families.step(changed, input_ids=ids, labels=ids)
    model = families.make("llama")
    if when == "before":
        CHANGES[change](model)
    with memo.attached(model, **OPTIONS):
        if when == "after":
            CHANGES[change](model)
        assert max(families.differences(families.step(model, input_ids=ids, labels=ids), plain)) <= 1e-5
    again = families.step(model, input_ids=ids, labels=ids)
    assert again[0] == plain[0] and all(torch.equal(g, plain[1][name]) for name, g in again[1].items())


def test_hooks_of_the_head_see_what_it_is_given_and_gives(ids):
    model, seen = families.make("llama"), []
    model.lm_head.register_forward_hook(lambda module, args, out: seen.append((args[0].detach(), out.detach().clone())))
    model(input_ids=ids, labels=ids)
    with memo.attached(model, **OPTIONS):
        model(input_ids=ids, labels=ids)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(*seen))


# ---- autograd

@pytest.fixture
def head():
    """An attached model, its head's weight, and a loss of it by hidden states."""
    model = families.make("llama")
    weight, hidden = model.lm_head.weight, torch.randn(1, 700, 64, requires_grad=True)
    labels = torch.randint(97, (700,))
    memo.attach(model, **OPTIONS)
    exact = F.cross_entropy(F.linear(hidden, weight)[0], labels)
    return hidden, weight, F.cross_entropy(model.lm_head(hidden)[0], labels), exact, model.lm_head(hidden)


def test_backward_twice_with_the_graph_kept(head):
    hidden, weight, loss, exact, _ = head
    expected = torch.autograd.grad(exact, [hidden, weight])
    for _ in range(2):
        for ours, plain in zip(torch.autograd.grad(loss, [hidden, weight], retain_graph=True), expected):
            assert torch.allclose(ours, plain, atol=1e-6)
    (3 * loss).backward()
    assert torch.allclose(hidden.grad, 3 * expected[0], atol=1e-6)


def test_backward_twice_without_is_refused_as_ever(head):
    loss = head[2]
    loss.backward()
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        loss.backward()


@pytest.mark.parametrize("of", [0, 1])
def test_gradients_of_some_inputs(of, head):
    ours, plain = (torch.autograd.grad(loss, head[of])[0] for loss in head[2:4])
    assert torch.allclose(ours, plain, atol=1e-6)


def test_gradients_of_gradients_are_refused_in_a_line(head):
    hidden, _, loss, _, logits = head
    for one in (loss, logits.square().sum()):
        with pytest.raises(RuntimeError, match="gradients of gradients") as raised:
            torch.autograd.grad(one, hidden, create_graph=True)
        assert "\n" not in str(raised.value)


def test_a_loss_in_a_sum_and_one_that_is_not_used(head):
    hidden, weight, loss, exact, _ = head
    for one in (loss, exact):
        hidden.grad = None
        (one + hidden.square().sum() * one.detach()).backward()
        one.kept = hidden.grad
    assert torch.allclose(loss.kept, exact.kept, atol=1e-6)


def test_without_gradients_the_loss_is_computed_too(head):
    logits, labels = head[4][0], torch.zeros(700, dtype=torch.long)
    with torch.no_grad():
        tiled = F.cross_entropy(logits, labels)
        assert not tiled.requires_grad and torch.allclose(tiled, F.cross_entropy(logits.clone(), labels))
