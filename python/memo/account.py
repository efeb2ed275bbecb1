"""What a step takes on the device outside of its plan, and what `device_limit` leaves to plans."""

import gc

import torch

from memo import _core
from memo.around_layers import AroundLayers, requested

_MEASURED = 2048  # tokens of the step that is measured, and at least two tiles of logits


class Account:
    """Of one attached model. `limit`: bytes for everything of a step; 0: none."""

    def __init__(self, planning, limit):
        self._planning, self.limit, self._around, self._before = planning, limit, None, 0

    def begin(self):
        """Called before there are examples of layers."""
        if self._planning.device.type == "cuda":
            self._before = requested(self._planning.device)

    def forget(self):
        """Called where blocks, and so tiles of logits, have another size."""
        self._around = None

    def room(self) -> int:
        """What a GPU has free, less a reserve, and what the model holds already: a limit where none is given. 0: none."""
        device = self._planning.device
        if device.type == "cuda":
            torch.cuda.empty_cache()
        room = _core.room(device)
        parameters = self._planning.kind.model.parameters()
        tensors = [t for p in parameters for t in (p, p.grad) if t is not None and t.device == device]
        return room + sum(t.nbytes for t in tensors) if room else 0

    def of(self, context) -> dict:
        """Bytes outside of a plan for this context: weights, gradients, AdamW's moments, and around layers what the model's own
        code needs: hidden states, a tile of logits, and on a GPU, where it is measured, all else and the examples of layers."""
        self._measure()
        model = self._planning.kind.model
        tensors = [t for t in (*model.parameters(), *model.buffers()) if t.device == self._planning.device]
        trained = sum(t.nbytes for t in tensors if t.requires_grad)
        if self._around:
            around = self._around.bytes(context) + self._examples
        else:
            tile = self._planning.head.tile_bytes if self._planning.head else 0
            around = tile + 4 * context * self._planning.kind.hidden_size * tensors[0].element_size()
        return {"weights": sum(t.nbytes for t in tensors), "gradients": trained, "moments": 2 * trained, "around layers": around}

    def outside(self, context) -> int:
        """All of it. Lengths up to the attached one share its limit, and so its memory."""
        return sum(self.of(max(context, self._planning.blocks * self._planning.block)).values())

    def left(self, context) -> int:
        """Bytes that the limit leaves to a plan; 0: no limit."""
        outside = self.outside(context)
        if self.limit and self.limit <= outside:
            raise ValueError(f"device_limit: weights, gradients, moments, hidden states and a tile of logits alone take "
                             f"{_core.format_bytes(outside)}")
        return self.limit - outside if self.limit else 0

    def _measure(self):
        """Once for each size of blocks, on a GPU; not where ranks gather what they share when a module runs, which measuring
        cannot imitate."""
        planning = self._planning
        shared = any(hasattr(module, "unshard") for module in planning.kind.model.modules())
        if self._around or planning.device.type != "cuda" or shared:
            return
        returns_tuple = planning.prepare_profiler()
        gc.collect()
        self._examples = requested(planning.device) - self._before
        tokens = max(2 * planning.head.tile if planning.head else 0, _MEASURED)
        self._around = AroundLayers(planning, min(planning.blocks * planning.block, tokens), returns_tuple)
