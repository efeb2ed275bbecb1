"""Logits that are computed only when their values are used: the output of an attached model's head while it trains."""

import weakref

import torch
from torch.utils._pytree import tree_map_only

from memo.tiled_loss import TILE, TiledLoss, first_order

_CROSS_ENTROPY = torch.nn.functional.cross_entropy
# Methods that read the memory, or the whole object, without calling one of PyTorch's operators.
_READS = {"__array__", "__cuda_array_interface__", "__dlpack__", "__reduce_ex__", "__repr__", "data_ptr", "numpy",
          "share_memory_", "storage", "tolist", "untyped_storage"}


class Logits(torch.Tensor):
    """Logits [..., vocabulary]: `rows` [..., hidden] through a linear head, then `steps`. A tensor like any other: the first
    operator that needs its values computes all of them, and gradients are those of whole logits. The usual operations before
    a loss need no values: views and slices of the rows, float(), multiples, a soft cap, and cross entropy itself, which runs
    in tiles."""

    @staticmethod
    def of(rows, weight, bias, cast, steps=(), before=None, tile=TILE) -> "Logits":
        """cast: the dtype to which autocast casts the head's operands, or None. steps: (name of a method of Tensor, arguments).
        before: the logits from which these are derived. tile: rows of them that a loss computes together."""
        logits = _Head.apply(rows, weight, bias, cast, steps)
        logits._operands, logits._cast, logits._steps, logits._whole = (rows, weight, bias), cast, steps, None
        logits._source = before._source if before is not None else _Source(tile, rows, weight, bias)
        # The logits that would share memory with these, if they had values.
        logits._views = before._views if before is not None and rows is not before._operands[0] else []
        logits._views.append(weakref.ref(logits))
        return logits

    def _now(self):
        """The operands; raises if they have changed since the logits were made."""
        if self._source.changed():
            raise RuntimeError("memo: the weights have changed since these logits were asked for, and nobody had looked at them; "
                               "look at them before optimizer.step()")
        return self._operands

    def _made(self):
        if self._whole is None:
            with torch.no_grad():
                self._whole = _take(_linear(*self._now(), self._cast), self._steps)
        return self._whole

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        kwargs, name = kwargs or {}, getattr(func, "__name__", "")
        first = args[0] if args and type(args[0]) is Logits else kwargs.get("input")
        with torch._C.DisableTorchFunctionSubclass():
            if name in ("register_hook", "retain_grad") and first._source.watch() and name == "retain_grad":
                raise RuntimeError(
                    "memo: the loss was computed in tiles, without these logits, so they have no gradient to retain"
                )
            if type(first) is Logits and first._whole is None and not first._source.watched:
                found = first._loss(*args[1:], **kwargs) if func is _CROSS_ENTROPY else first._after(func, name, args[1:], kwargs)
                if found is not None:
                    return found
            if name in _READS:
                args = (torch.ops.aten.alias(first), *args[1:])
            return func(*args, **kwargs)

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func._schema.is_mutable:
            for argument, value in zip(func._schema.arguments, args):
                if argument.is_write and type(value) is Logits:
                    value._refuse_views(func)
        return func(*tree_map_only(Logits, Logits._made, args), **tree_map_only(Logits, Logits._made, kwargs))

    def _refuse_views(self, func):
        if any(other() is not None and other() is not self for other in self._views):
            raise RuntimeError(f"memo: {func.name()} in place, on logits of which there are several views; write logits = "
                               "logits.clone() first")

    # ---- operations without values; they return None if they need values after all

    @torch.compiler.disable
    def _after(self, func, name, given, kwargs):
        """The logits after one of the steps that need no values."""
        (rows, weight, bias), step = self._operands, None
        if name in ("mul", "div", "true_divide") and len(given) == 1 and type(given[0]) in (int, float) and not kwargs:
            step = ("mul" if name == "mul" else "div", given)
        elif name == "tanh" and not given and not kwargs:
            step = ("tanh", ())
        elif self.dtype != torch.float32 and (name == "float" or name == "to" and _only(given, kwargs) is torch.float32):
            step = ("float", ())
        elif name in ("view", "reshape", "flatten"):
            shaped = func(torch.empty(self.shape, dtype=self.dtype, device="meta"), *given, **kwargs)
            if shaped.dtype != self.dtype or shaped.dim() == 0 or shaped.shape[-1] != self.shape[-1]:
                return None
            rows = rows.reshape(*shaped.shape[:-1], rows.shape[-1])
        elif name == "__getitem__" and _of_rows(given[0], self.dim()):
            rows = rows[given[0]]
        else:
            return None
        return Logits.of(rows, weight, bias, self._cast, self._steps + ((step,) if step else ()), self)

    @torch.compiler.disable
    def _loss(self, target, weight=None, size_average=None, ignore_index=-100, reduce=None, reduction="mean",
              label_smoothing=0.0, input=None):
        """Cross entropy in tiles."""
        form = _scale_and_cap(self._steps)
        if (form is None or self.dim() != 2 or target.shape != self.shape[:1] or target.dtype != torch.long
                or target.device != self.device or reduction not in ("mean", "sum") or label_smoothing
                or any(other is not None for other in (weight, size_average, reduce))):
            return None
        outside = (target != ignore_index) & ((target < 0) | (target >= self.shape[1]))
        if target.device.type == "cpu" and outside.any():  # a GPU's kernels check this themselves
            raise IndexError(f"Target {target[outside][0]} is out of bounds.")
        operands = self._now() if torch.is_grad_enabled() else [t if t is None else t.detach() for t in self._now()]
        with torch.autocast(self.device.type, dtype=self._cast, enabled=self._cast is not None):
            self._source.tiled = True
            loss = TiledLoss.apply(*operands, target, ignore_index, reduction == "mean", *form, self._source.tile)
        return loss.to(self.dtype)


class _Source:
    """The common state of logits that are derived from one another."""

    def __init__(self, tile, *operands):
        self.tile = tile
        self._versions = [(t, t._version) for t in operands if t is not None]
        self.tiled, self.watched = False, False  # a loss was computed in tiles; the logits' gradient is wanted

    def changed(self):
        return any(t._version != version or t.untyped_storage().nbytes() == 0 for t, version in self._versions)

    def watch(self):
        self.watched = True
        return self.tiled


class _Head(torch.autograd.Function):
    """The node of logits in autograd's graph: its backward takes the gradient of whole logits."""

    @staticmethod
    def forward(ctx, rows, weight, bias, cast, steps):
        ctx.save_for_backward(rows, weight, bias)
        ctx.cast, ctx.steps = cast, steps
        dtype = torch.float32 if ("float", ()) in steps else cast or rows.dtype
        return torch.Tensor._make_wrapper_subclass(Logits, (*rows.shape[:-1], weight.shape[0]), dtype=dtype, device=rows.device)

    @staticmethod
    @first_order
    def backward(ctx, d):
        rows, weight, bias = ctx.saved_tensors
        if ctx.steps:
            with torch.enable_grad():
                values = _linear(rows.detach(), weight.detach(), bias, ctx.cast).detach().requires_grad_()
                d, = torch.autograd.grad(_take(values, ctx.steps), values, d)
        d, flat = d.reshape(-1, d.shape[-1]), rows.reshape(-1, rows.shape[-1])
        d_rows = (d @ weight.to(d.dtype)).view(rows.shape).to(rows.dtype) if ctx.needs_input_grad[0] else None
        d_weight = (d.t() @ flat.to(d.dtype)).to(weight.dtype) if ctx.needs_input_grad[1] else None
        d_bias = d.sum(0).to(bias.dtype) if ctx.needs_input_grad[2] else None
        return d_rows, d_weight, d_bias, None, None


def _linear(rows, weight, bias, cast):
    with torch.autocast(rows.device.type, enabled=False):
        if cast is not None:
            rows, weight, bias = rows.to(cast), weight.to(cast), bias if bias is None else bias.to(cast)
        return torch.nn.functional.linear(rows, weight, bias)


def _take(logits, steps):
    for name, arguments in steps:
        logits = getattr(logits, name)(*arguments)
    return logits


def _only(given, kwargs):
    """The single argument of `Tensor.to`, if there is only one."""
    return given[0] if len(given) == 1 and not kwargs else kwargs.get("dtype") if len(kwargs) == 1 and not given else None


def _of_rows(index, dims):
    """Whether an index selects whole rows, by slices and numbers."""
    index = index if type(index) is tuple else (index,)
    if not index or not all(type(part) in (slice, int) or part is Ellipsis for part in index):
        return False
    indexed = sum(part is not Ellipsis for part in index)
    return index[-1] == slice(None) or indexed < dims and Ellipsis not in index[:-1]


def _scale_and_cap(steps):
    """(scale, cap or None) if the steps are multiples and then at most one soft cap; else None."""
    steps = [(name, arguments[0] if arguments else None) for name, arguments in steps if name != "float"]
    cap = None
    if len(steps) >= 3 and [name for name, _ in steps[-3:]] == ["div", "tanh", "mul"] and steps[-3][1] == steps[-1][1]:
        cap, steps = steps[-1][1], steps[:-3]
    scale = 1.0
    for name, number in steps:
        if name == "tanh":
            return None
        scale = scale * number if name == "mul" else scale / number
    return scale, cap
