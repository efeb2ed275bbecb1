"""The LM head of an attached model: while it trains, its logits are computed only when their values are used."""

import functools

import torch

from memo import autocast
from memo.logits import Logits
from memo.tiled_loss import TILE

_DTYPES = (torch.float32, torch.bfloat16)


class TiledHead:
    def __init__(self, model):
        self._model = model
        self._capped = bool(getattr(model.config.get_text_config(), "final_logit_softcapping", None))
        self._patched, self.tile = [], TILE

    @classmethod
    def of(cls, model) -> "TiledHead | None":
        """None where nothing in the head is linear."""
        made = cls(model)
        return made if made._linears() else None

    def _linears(self):
        """The linear modules of the model's present head: the head itself, or those inside of its wrapper."""
        head = self._model.get_output_embeddings() if hasattr(self._model, "get_output_embeddings") else None
        return [module for module in head.modules() if isinstance(module, torch.nn.Linear)] if head is not None else []

    @property
    def tile_bytes(self) -> int:
        """Bytes of a tile's logits and their gradients, and of the weight's gradient."""
        head = self._linears()[0]
        return 4 * (self.tile * head.out_features * (2 if self._capped else 1) + head.weight.numel())

    def loss(self, ids):
        """The model's own loss of these tokens."""
        logits = self._model(input_ids=ids, use_cache=False).logits
        return self._model.loss_function(logits=logits, labels=ids, vocab_size=logits.shape[-1])

    def patch(self, patching):
        """Called before every step, since heads may be resized, replaced and wrapped."""
        for head in self._linears():
            if head not in self._patched:
                self._patched.append(head)
                patching.replace(head, functools.partial(self._run, head))

    def _run(self, head, forward):
        own = "forward" in head.__dict__

        def run(input):
            weight, bias, cast = head.weight, head.bias, autocast.state(input.device.type)
            # The weight of a head that is sharded by itself is gone when the loss is computed; tensor subclasses compute in
            # their own way.
            if (own or type(head).forward is not torch.nn.Linear.forward or hasattr(head, "unshard")
                    or not head.training or not torch.is_grad_enabled()
                    or any(type(t) not in (torch.Tensor, torch.nn.Parameter) or t.dtype not in _DTYPES for t in (input, weight))
                    or cast not in (None, torch.bfloat16) or (cast is None and input.dtype != weight.dtype)
                    or input.dim() < 2 or not (input.requires_grad or weight.requires_grad)):
                return forward(input)
            return Logits.of(input, weight, bias, cast, tile=self.tile)

        return torch.compiler.disable(run)
