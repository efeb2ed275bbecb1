"""Dropout whose masks are drawn by the twin that runs first, and used again by the others.

A block of an attached layer sees some of the tokens: its part of a mask is kept by the tokens that it computes. What an
attached layer computes again must draw what it drew before."""

import contextlib
import contextvars

import torch

from memo import block_greenlet, layers

_block = contextvars.ContextVar("tokens of the block that runs", default=None)


def tokens_of_block():
    """(layer, begin, end) of the block that runs, None outside of blocks."""
    theirs = getattr(block_greenlet, "tokens_of_block", None)
    return theirs() if theirs else _block.get()


@contextlib.contextmanager
def _told_by_calls():
    """Blocks know their tokens also where memo.block_greenlet does not tell."""
    before = layers.Calls.before

    def run(self, layer, block, x):
        token = _block.set((layer, block * x.shape[0], (block + 1) * x.shape[0]))
        try:
            return before(self, layer, block, x)
        finally:
            _block.reset(token)

    layers.Calls.before = run
    try:
        yield
    finally:
        layers.Calls.before = before


class Masks:
    """Of one action, by the number of the forward, the module's name and the first token."""

    def __init__(self):
        self.changed = set()  # modules whose masks were others when they were computed again
        self.begin(drawing=True)

    def begin(self, drawing):
        """A twin does the action; drawing: it is the first one."""
        self._drawing, self._forward, self._in_forward = drawing, 0, False
        if drawing:
            self._drawn = {}

    @contextlib.contextmanager
    def forward(self):
        """Of a twin: what is drawn last within is what its backward must draw again (a layer may be tried before it runs)."""
        self._forward += 1
        self._in_forward = True
        try:
            yield
        finally:
            self._in_forward = False

    @contextlib.contextmanager
    def in_place(self):
        """Within, modules of dropout draw and use these masks."""
        before = torch.nn.Dropout.forward

        @torch.compiler.disable
        def forward(module, x):
            if not module.training or module.p == 0:
                return before(module, x)
            return x * self._mask(getattr(module, "name_of_fuzz", "?"), module.p, x)

        torch.nn.Dropout.forward = forward
        try:
            with _told_by_calls():
                yield
        finally:
            torch.nn.Dropout.forward = before

    def _mask(self, name, p, x):
        block = tokens_of_block()
        drawn = self._drawn.setdefault((self._forward, name), {})
        if block is None and drawn and self._forward and not (self._drawing and self._in_forward):
            rows = torch.cat([part for _, part in sorted(drawn.items())])
            count = x.numel() // x.shape[-1]
            if rows.shape[0] >= count and rows.shape[1] == x.shape[-1]:
                return rows[:count].view(x.shape).to(x.dtype)
        mask = torch.nn.functional.dropout(torch.ones_like(x), p, True)
        # Not a tensor that keeps a block's memory.
        own = torch.from_numpy(mask.detach().float().numpy().reshape(-1, x.shape[-1]).copy())
        begin = block[1] if block else 0
        if self._in_forward or self._forward == 0 or begin not in drawn:  # 0: it is attached
            drawn[begin] = own
        elif not torch.equal(drawn[begin], own):
            self.changed.add(name)
        return mask


def name_modules(model):
    """Modules of dropout know their names, which copies keep."""
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Dropout):
            module.name_of_fuzz = name
