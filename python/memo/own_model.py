"""Describes a model that is not of transformers to `attach`: by arguments, and by running the model."""

import contextlib

import torch

from memo import block_greenlet
from memo.errors import UnsupportedModel


class OwnModel:
    """A model whose `layers` (a ModuleList or ModuleDict, or its name) run one after the other, take hidden states [batch,
    tokens, hidden] as their first argument, return hidden states alone, and call `memo.attention`. `example(tokens)` returns
    the model's arguments for this many tokens."""

    def __init__(self, model, layers, example):
        if example is None:
            raise ValueError("example is missing: a function from a number of tokens to the model's arguments, a tuple")
        self.model = self.owner = model
        self.name = layers if isinstance(layers, str) else next(
            (name for name, module in model.named_modules() if module is layers), "")
        found = model.get_submodule(self.name) if self.name else None
        if not isinstance(found, torch.nn.ModuleList | torch.nn.ModuleDict) or len(found) == 0:
            raise UnsupportedModel(f"layers = {layers!r}: write the name of a ModuleList or ModuleDict of "
                                   f"{type(model).__name__}")
        self.configs = []
        self.own_forward = None  # the class's forward while attached, so that no wrapper is entered within itself
        self.find_layers()
        self._example = example
        hidden = []
        handle = self.layers[0].register_forward_pre_hook(lambda module, args: hidden.append(args[0].shape[-1]))
        try:
            with torch.no_grad():
                seen = block_greenlet.look(lambda: self.example(8))
        finally:
            handle.remove()
        shapes, self.windows = [call[:3] for call in seen], [call[3] for call in seen]
        if len(set(shapes)) != 1 or len(shapes) != len(self.layers):
            raise UnsupportedModel(f"{self.name}: each layer calls memo.attention once, with the same heads; seen in "
                                   f"{len(self.layers)} layers: {shapes}")
        self.hidden_size, (self.heads, self.kv_heads, self.head_dim) = hidden[0], shapes[0]

    def find_layers(self):
        self.layers = self.layers_now()

    def layers_now(self):
        found = self.model.get_submodule(self.name)
        return list(found.values() if isinstance(found, torch.nn.ModuleDict) else found)

    def inputs_train(self) -> bool:
        return True

    def our_attention(self):
        return contextlib.nullcontext()

    own_attention = our_attention

    def example(self, tokens):
        """Runs the model on some tokens."""
        arguments = self._example(tokens)
        return (self.own_forward or self.model)(*arguments if isinstance(arguments, tuple) else (arguments,))

    def prepare_call(self, kwargs) -> bool:
        return True

    def around(self):
        return []

    def turn_checkpointing_off(self) -> bool:
        return False

    def head(self):
        return None
