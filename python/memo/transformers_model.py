"""Describes a model of transformers to `attach`: its decoder layers, attention, masks and head."""

import contextlib

import torch

from memo import block_greenlet, masks
from memo.errors import UnsupportedModel
from memo.head import TiledHead

# Models pass these on to their layers, which do not use them.
_OF_THE_LOSS = ("num_items_in_batch", "ignore_index", "shift_labels")


class TransformersModel:
    """`owner` is the module that runs the decoder layers, one after the other."""

    def __init__(self, model):
        try:
            import transformers  # noqa: F401
        except ImportError:
            raise UnsupportedModel(f"{type(model).__name__}: there is no transformers here; name the model's layers: "
                                   "memo.attach(model, layers=...)") from None
        self.model, self._outside = model, None
        self.own_forward = None  # the class's forward while attached, so that no wrapper is entered within itself
        self.find_layers()
        config = self.owner.config.get_text_config()
        self.hidden_size = config.hidden_size
        self.heads = config.num_attention_heads
        self.kv_heads = getattr(config, "num_key_value_heads", None) or self.heads
        self.head_dim = getattr(config, "head_dim", None) or config.hidden_size // self.heads
        self._keeps_cache = self._checkpointed = False  # in the plain model's call; checkpointing turns caches off
        block_greenlet.register()

    def find_layers(self):
        """The decoder layers as they are now, and the module that runs them."""
        from transformers.modeling_layers import GradientCheckpointingLayer

        found = []
        for name, module in self._language_model().named_modules():
            found += [(name, module, child_name, child) for child_name, child in module.named_children()
                      if isinstance(child, torch.nn.ModuleList) and len(child) > 0 and all(
                          isinstance(layer, GradientCheckpointingLayer) for layer in child)]
        if not found:
            raise UnsupportedModel(f"{type(self.model).__name__} has no list of decoder layers that memo knows; name yours: "
                                   "memo.attach(model, layers=...)")
        _, self.owner, self._child, _ = max(found, key=lambda one: len(one[3]))
        self.layers = self.layers_now()
        prefix = next(name for name, module in self.model.named_modules() if module is self.owner)
        self.name = f"{prefix}.{self._child}".lstrip(".")
        if getattr(self.owner.config, "is_encoder_decoder", False):
            raise UnsupportedModel(f"{type(self.model).__name__} is an encoder with a decoder; decoders alone can be attached")
        self.windows = [next((m.sliding_window for m in layer.modules() if getattr(m, "sliding_window", None)), 0)
                        for layer in self.layers]
        self.configs = list({id(c): c for c in self._all_configs()}.values())

    def layers_now(self):
        return list(getattr(self.owner, self._child))

    def _language_model(self):
        """The model inside of wrappers; for a model of images and text, its language model."""
        from transformers import PreTrainedModel

        inside = next((module for module in self.model.modules() if isinstance(module, PreTrainedModel)), self.model)
        decoder = inside.get_decoder() if isinstance(inside, PreTrainedModel) else None
        return decoder if isinstance(decoder, torch.nn.Module) else inside

    def _embeddings(self):
        holder = next((m for m in (self.owner, self.model) if hasattr(m, "get_input_embeddings")), None)
        return holder.get_input_embeddings() if holder is not None else None

    def inputs_train(self) -> bool:
        """Whether the first layer's hidden states are expected to need gradients."""
        embeddings = self._embeddings()
        return embeddings is None or bool(embeddings._forward_hooks) or any(p.requires_grad for p in embeddings.parameters())

    def _all_configs(self):
        yield self.owner.config
        yield self.owner.config.get_text_config()
        for layer in self.layers:
            for module in layer.modules():
                if getattr(module, "config", None) is not None:
                    yield module.config

    @contextlib.contextmanager
    def our_attention(self):
        """Within, blocks leave layers at their attention, and masks have the form for it (memo/masks.py)."""
        configs, before, outside = self.configs, [config._attn_implementation for config in self.configs], self._outside
        self._outside = outside or before
        _put_attention(configs, [block_greenlet.NAME] * len(configs))
        try:
            with masks.instead_of(self._outside[0], packing=not self._keeps_cache):
                yield
        finally:
            _put_attention(configs, before)
            self._outside = outside

    @contextlib.contextmanager
    def own_attention(self):
        """Within, the model computes as outside of `our_attention`."""
        configs, before, outside = self.configs, [config._attn_implementation for config in self.configs], self._outside
        _put_attention(configs, outside or before)
        self._outside = None
        try:
            with masks.suspended():
                yield
        finally:
            _put_attention(configs, before)
            self._outside = outside

    def ids(self, tokens):
        """Random ones [1, tokens]."""
        embeddings = self._embeddings()
        vocabulary = embeddings.weight.shape[0] if embeddings is not None else self.owner.config.get_text_config().vocab_size
        ids = torch.randint(vocabulary, (1, tokens), generator=torch.Generator().manual_seed(0))
        return ids.to(next(self.owner.parameters()).device)

    def example(self, tokens):
        """Runs the model on some tokens, without its head; a model of fully_shard must be called as a whole."""
        takes_ids = hasattr(self.owner, "get_input_embeddings") and not hasattr(self.model, "unshard")
        run = (self.own_forward or self.owner) if takes_ids else self.model
        return run(input_ids=self.ids(tokens), use_cache=False)

    def prepare_call(self, kwargs) -> bool:
        """Whether this call of the owner may run by blocks; if so, turns its cache off."""
        if kwargs.get("past_key_values") is not None:
            return False
        use_cache = kwargs.get("use_cache")
        self._keeps_cache = bool(getattr(self.owner.config, "use_cache", False) if use_cache is None else use_cache) and not (
            self._checkpointed or any(layer.gradient_checkpointing for layer in self.layers))
        kwargs["use_cache"] = False
        for name in _OF_THE_LOSS:
            kwargs.pop(name, None)
        return True

    def around(self):
        """The modules around the owner that make its masks, as in models with several kinds of input."""
        from transformers import PreTrainedModel

        parents = [module for module in self.model.modules() if any(child is self.owner for child in module.children())]
        return [module for module in parents if isinstance(module, PreTrainedModel) and module.get_output_embeddings() is None]

    def our_masks(self, kwargs):
        """The context for a call of such a module, which makes masks before there is a cache."""
        self._keeps_cache = False
        return self.our_attention() if kwargs.get("past_key_values") is None else contextlib.nullcontext()

    def turn_checkpointing_off(self) -> bool:
        if not any(layer.gradient_checkpointing for layer in self.layers):
            return False
        self.model.gradient_checkpointing_disable()
        self._checkpointed = True
        return True

    def head(self):
        """The head of the model itself or, if it is wrapped, of the model inside."""
        from transformers import PreTrainedModel

        for module in self.model.modules():
            if isinstance(module, PreTrainedModel) and (head := TiledHead.of(module)):
                return head
        return None


def _put_attention(configs, names):
    for config, name in zip(configs, names):
        config._attn_implementation = name
