"""A model, and what a user holds beside it."""

import torch
import transformers as hf
from fuzz import masks


class Twin:
    """role: "attached" (memo is called), "plain", or "exact": a plain one that stays in float32 whatever is done."""

    def __init__(self, role, model, drawn):
        self.role, self.model, self.masks = role, model, drawn
        self.attached_to = None  # what memo.attach was given
        self.optimizer = self.accelerator = None
        self.autocasts = False  # by itself, as Accelerator made it
        self.handles = []  # of hooks

    @property
    def inner(self):
        """The model of transformers, inside of wrappers."""
        return next(m for m in self.model.modules() if isinstance(m, hf.PreTrainedModel))

    @property
    def layers(self):
        return max((m for m in self.inner.modules() if isinstance(m, torch.nn.ModuleList)), key=len)

    def call(self, model, inputs):
        """A forward of the model, or of a copy of it."""
        masks.name_modules(model)
        with self.masks.forward():
            return model(**inputs)

    def modules(self, pattern):
        """Decoder layers' modules by a name that families share, and others by theirs."""
        found = [m for name, m in self.inner.named_modules() if name.endswith(_NAMES.get(pattern, (pattern,)))]
        return found or [self.layers[0]]

    def forget_optimizer(self):
        self.optimizer = None


_NAMES = {"norm": ("input_layernorm", "ln_1"), "mlp": ("mlp",), "attention": ("self_attn", "attn"),
          "down": ("down_proj", "mlp.c_proj", "mlp.gate")}
