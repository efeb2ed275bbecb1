"""When numbers count as the same: equal but for rounding, whose size in bfloat16 is the plain model's own."""

import torch

CLOSE, GRADIENT = 1e-5, 1e-4  # of the norm, in float32
TINY = 1e-6  # of the largest gradient's norm: a gradient that is 0 in theory is noise
ROUNDING = 2**-8  # of bfloat16
# The plain model's own error, so many times. FlashAttention rounds its output before its backward reads it: of 300 draws of 21
# rows whose values have a common part, the gradient of queries by LibTorch's own in bfloat16 is 3.1 (median) to 4.3 times as
# far from float32 as that by attention in steps, which the plain model takes where it has a mask.
TIMES = 4


class Difference(AssertionError):
    """What is not as it is of the plain model."""


def compare(ours, plain, exact, slack=0.0):
    """What was seen (computing.Seen), without its gradients. exact: in float32 where the others are of bfloat16. slack: of the
    norm, besides what follows from the plain model's own error there."""
    for name, value in plain.same.items():
        if not equal(ours.same.get(name), value):
            raise Difference(f"{name}: {brief(ours.same.get(name))}; of the plain model {brief(value)}")
    for kind in ("close", "told"):
        for name, value in getattr(plain, kind).items():
            mine = getattr(ours, kind).get(name)
            if kind == "told" and (mine is None or value is None):
                continue
            if mine is None or mine.shape != value.shape:
                raise Difference(f"{name}: {brief(mine)}; of the plain model {brief(value)}")
            best = getattr(exact, kind).get(name) if exact else None
            if (error := far(mine, value, best, CLOSE, slack=slack)) is not None:
                raise Difference(f"{name}: {brief(mine)}; of the plain model {brief(value)} ({error})")


def compare_gradients(ours, plain, exact, slack=0.0):
    if ours.keys() != plain.keys():
        raise Difference(f"gradients of other parameters: {sorted(ours.keys() ^ plain.keys())[:4]}")
    there = [name for name, g in plain.items() if g is not None]
    other = [name for name in plain if (ours[name] is None) != (plain[name] is None)]
    if other:
        raise Difference(f"{len(other)} gradients are there and not there: {other[0]}, of the plain model "
                         f"{'there' if plain[other[0]] is not None else 'not there'}")
    most = max((plain[name].float().norm().nan_to_num() for name in there), default=torch.zeros(()))
    wrong = []
    for name in there:
        best = exact.get(name) if exact else None
        if (error := far(ours[name], plain[name], best, GRADIENT, TINY * most, slack)) is not None:
            wrong.append(f"{name} ({error})")
    if wrong:
        raise Difference(f"{len(wrong)} of {len(there)} gradients: {', '.join(wrong[:3])}")


def far(ours, plain, exact, bound, least=0.0, slack=0.0):
    """None where the two are the same but for rounding, else how far they are from each other, in words."""
    ours, plain = ours.detach().float(), plain.detach().float()
    if not torch.equal(ours.isnan(), plain.isnan()):
        return "not a number in one of them"
    ours, plain = ours.nan_to_num(), plain.nan_to_num()
    if exact is None:
        error, allowed = (ours - plain).norm(), bound * plain.norm() + least
        return None if error <= allowed else f"{error / plain.norm().clamp_min(1e-30):.1e} of its norm"
    exact = exact.detach().float().nan_to_num()
    error, own = (ours - exact).norm(), (plain - exact).norm()
    allowed = TIMES * own + (ROUNDING + slack) * exact.norm() + least * (ROUNDING / TINY)
    norm = exact.norm().clamp_min(1e-30)
    return None if error <= allowed else f"{error / norm:.1e} of its norm from float32, the plain model {own / norm:.1e}"


def compare_models(ours, plain):
    """Parameters to the bit, what is trained, buffers, modes; and nothing of memo left where it is detached."""
    for what in ("parameters", "buffers"):
        mine, theirs = (dict(getattr(twin.model, f"named_{what}")()) for twin in (ours, plain))
        if mine.keys() != theirs.keys():
            raise Difference(f"other {what}: {sorted(mine.keys() ^ theirs.keys())[:4]}")
        for name, value in theirs.items():
            if mine[name].requires_grad != value.requires_grad or (mine[name].grad is None) != (value.grad is None):
                raise Difference(f"{name} is trained, or has a gradient, in one of the models only")
            if not equal(mine[name], value):
                raise Difference(f"{name}: {brief(mine[name])}; of the plain model {brief(value)}")
    if ours.attached_to is None:
        for (name, mine), (_, theirs) in zip(ours.model.named_modules(), plain.model.named_modules()):
            if mine.training != theirs.training or "forward" in vars(mine) and "forward" not in vars(theirs):
                raise Difference(f"{name or 'the model'}: another mode, or a forward that stayed, where memo is detached")
        implementations = [twin.inner.config._attn_implementation for twin in (ours, plain)]
        if implementations[0] != implementations[1]:
            raise Difference(f"attention stays {implementations[0]}")


def equal(ours, plain):
    if not isinstance(plain, torch.Tensor) or not isinstance(ours, torch.Tensor):
        return ours is plain or (type(ours) is type(plain) and ours == plain)
    return ours.shape == plain.shape and ours.dtype == plain.dtype and bool(
        ((ours == plain) | (ours.isnan() & plain.isnan())).all())


def brief(value):
    if not isinstance(value, torch.Tensor):
        return "nothing" if value is None else repr(value)
    number = f"{value.item():.6g}" if value.numel() == 1 else f"of norm {value.detach().float().norm().item():.6g}"
    return f"{number} ({list(value.shape)} {str(value.dtype).removeprefix('torch.')})" if value.dim() else number
