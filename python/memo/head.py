"""The LM head of an attached model: while it trains, its logits are made only when someone looks at them."""

import torch

from memo import autocast
from memo.logits import Logits
from memo.tiled_loss import TILE

_DTYPES = (torch.float32, torch.bfloat16)


class TiledHead:
    @classmethod
    def of(cls, model) -> "TiledHead | None":
        """None where the head is not linear."""
        head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
        return cls(model, head) if isinstance(head, torch.nn.Linear) else None

    def __init__(self, model, head):
        self.head = head
        self._capped = bool(getattr(model.config.get_text_config(), "final_logit_softcapping", None))

    @property
    def tile_bytes(self) -> int:
        """Of a tile's logits and what is computed with them, and of the weight's gradient."""
        return 4 * (TILE * self.head.out_features * (2 if self._capped else 1) + self.head.weight.numel())

    def patch(self, forwards):
        forwards.replace(self.head, self._run)

    def _run(self, forward):
        head, own = self.head, "forward" in self.head.__dict__

        def run(input):
            weight, bias, cast = head.weight, head.bias, autocast.state(input.device.type)
            # Sharded by itself, its weight is gone when the loss comes; what is no plain tensor computes in its own way.
            if (own or type(head).forward is not torch.nn.Linear.forward or hasattr(head, "unshard")
                    or not head.training or not torch.is_grad_enabled()
                    or any(type(t) not in (torch.Tensor, torch.nn.Parameter) or t.dtype not in _DTYPES for t in (input, weight))
                    or cast not in (None, torch.bfloat16) or (cast is None and input.dtype != weight.dtype)
                    or input.dim() < 2 or not (input.requires_grad or weight.requires_grad)):
                return forward(input)
            return Logits.of(input, weight, bias, cast)

        return torch.compiler.disable(run)
