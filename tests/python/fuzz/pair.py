"""The twins: what is done to one is done to the others, and every number is compared."""

import inspect
import re
import warnings

import families
import torch
from fuzz import changes, computing
from fuzz.comparing import Difference, compare, compare_gradients, compare_models
from fuzz.masks import Masks
from fuzz.twin import Twin
from torch.utils.checkpoint import CheckpointError

import memo

ACTIONS = {name: f for module in (changes, computing) for name, f in vars(module).items()
           if inspect.isfunction(f) and f.__module__ == module.__name__
           and list(inspect.signature(f).parameters)[:2] == ["twin", "seed"]}
_OPTIONS = tuple(inspect.signature(memo.attach).parameters)[1:]


class Pair:
    """A model of a family, attached (`memo.attach` comes when `attach` is called) and plain. dropout: of hidden states.
    exact: there is a twin in float32 too, to whose numbers those of bfloat16 are compared."""

    def __init__(self, family, seed=0, dropout=0.0, exact=True):
        self._family, self._seed, self._count = family, seed, 0
        self.masks = Masks()
        roles = ("attached", "plain", "exact") if exact else ("attached", "plain")
        self._twins = {role: Twin(role, families.make(family, **dropouts(family, dropout)), self.masks) for role in roles}
        self.attached, self.plain, self.exact = (self._twins.get(role) for role in ("attached", "plain", "exact"))
        self.refusals = []
        for twin in self._twins.values():  # attach does; transformers then hooks a mixture, which cannot be pickled any more
            with torch.no_grad():
                twin.model(input_ids=torch.ones(1, 2, dtype=torch.long))

    def __getattr__(self, name):
        if name not in ACTIONS:
            raise AttributeError(name)
        return lambda **given: self._do(name, given)

    def _do(self, name, given):
        """To all twins; raises Difference."""
        self._count += 1
        if given.get("backward") == "late" and self.plain.inner.is_gradient_checkpointing:
            given = given | {"backward": "once"}  # masks of what is computed again are known by the last forward alone
        low = self._in_bfloat16(given)
        if self.exact:
            take_numbers(self.exact, self.plain)
        gradients = {p: None if p.grad is None else p.grad.clone() for p in self.attached.model.parameters()}
        with self.masks.in_place(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ours = self._attempt(name, given, self.attached, drawing=True)
            plain = self._attempt(name, given, self.plain, drawing=False)
            if ours[1] is not None and self._is_refusal(name, ours[1]):
                self.refusals.append(f"{name}: {ours[1]}")
                ours = self._again_detached(name, given, gradients)
            exact = self._attempt(name, given, self.exact, drawing=False) if self.exact else (None, None)
        if self.masks.changed:
            raise Difference(f"masks of dropout that were computed again are others: {', '.join(sorted(self.masks.changed))}")
        self._compare(ours, plain, exact[0] if low else None, self._rerouted(given))
        compare_models(self.attached, self.plain)

    def _attempt(self, name, given, twin, drawing):
        """(what was seen, None) or (None, the exception)."""
        self.masks.begin(drawing)
        torch.manual_seed(self._seed)
        try:
            return ACTIONS[name](twin, self._seed * 1000 + self._count, **given) or computing.Seen(), None
        except BaseException as error:
            return None, error

    def _again_detached(self, name, given, gradients):
        """What was refused, with the gradients that were there before."""
        twin = self.attached
        for p, gradient in gradients.items():
            p.grad = gradient
        if name == "attach":
            return computing.Seen(), None
        if twin.attached_to is not None:
            memo.detach(twin.attached_to)
            twin.attached_to = None
        return self._attempt(name, given, twin, drawing=False)

    def _in_bfloat16(self, given):
        return given.get("autocast") or self.plain.autocasts or any(
            p.dtype == torch.bfloat16 for p in self.plain.model.parameters())

    def _is_refusal(self, action, error):
        """One line that begins with memo, or the name of a module or of an option, and hands on no error of another kind."""
        text = str(error)
        models = [m for m in (self.attached.model, self.attached.inner, self.attached.attached_to) if m is not None]
        names = {name for model in models for name, _ in model.named_modules() if name}
        starts = (
            tuple(name + end for name in names for end in (": ", " (")) + ("memo: ",) + (_OPTIONS if action == "attach" else ())
        )
        return (isinstance(error, ValueError | RuntimeError) and text.startswith(starts) and "\n" not in text
                and not re.search(r"\b[A-Z]\w*Error: ", text))

    def _rerouted(self, given):
        """What a token or two change that rounding to bfloat16 sends to other experts."""
        return 2 / given.get("tokens", 64) ** 0.5 if self._family == "mixtral" else 0.0

    def _compare(self, ours, plain, exact, slack):
        if isinstance(plain[1], CheckpointError):  # what changed since forward cannot be computed again; Memo turns that off
            for twin in self._twins.values():
                twin.model.zero_grad(set_to_none=True)
            return
        planted = plain[1] is not None and plain[1].args == changes.PLANTED
        if not isinstance(plain[1], type(ours[1])) or planted and ours[1].args != changes.PLANTED:
            raise Difference(f"raises {describe(ours[1])}; the plain model {describe(plain[1])}") from ours[1]
        if ours[1] is not None:
            for twin in self._twins.values():
                twin.model.zero_grad(set_to_none=True)
            return
        compare(ours[0], plain[0], exact, slack)
        compare_gradients(ours[0].gradients, plain[0].gradients, exact.gradients if exact else None, slack)
        for twin in self._twins.values():  # so that rounding does not add up
            if twin is not self.plain:
                take_gradients(twin, self.plain)


def dropouts(family, p):
    """Settings of a family's config, of dropout of hidden states."""
    names = {"gpt2": ("resid_pdrop", "embd_pdrop"), "phi3": ("resid_pdrop",)}.get(family, ())
    return dict.fromkeys(names, p) if p else {}


def take_numbers(twin, of):
    with torch.no_grad():
        for (_, mine), (_, theirs) in zip(twin.model.named_parameters(), of.model.named_parameters()):
            mine.copy_(theirs)
    take_gradients(twin, of)


def take_gradients(twin, of):
    for (_, mine), (_, theirs) in zip(twin.model.named_parameters(), of.model.named_parameters()):
        if theirs.grad is None:
            mine.grad = None
        elif mine.grad is None:
            mine.grad = theirs.grad.to(mine.dtype, copy=True)
        else:
            mine.grad.copy_(theirs.grad)


def describe(error):
    if error is None:
        return "nothing"
    lines = str(error).splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:300]}" + (f" (+ {len(lines) - 1} lines)" if len(lines) > 1 else "")
