"""LM head and cross entropy in tiles of tokens: the logits never exist whole."""

import contextlib

import torch

from memo.forwards import Forwards

TILE = 512  # tokens


class TiledLoss(torch.autograd.Function):
    """Mean cross entropy, or sum over `count`, of hidden [N, h] through weight [V, h] (bias [V] or None) against labels
    [N]; -100 has no loss. Logits are multiplied by `scale`, and capped as cap tanh(logits / cap) unless it is None.
    Gradients are computed with the loss, and scaled in backward."""

    @staticmethod
    def forward(ctx, hidden, weight, bias, labels, count, scale, cap):
        wanted = (hidden.requires_grad, weight.requires_grad, bias is not None and bias.requires_grad)
        d_hidden = torch.empty_like(hidden)
        d_weight = torch.zeros(weight.shape, dtype=torch.float32, device=weight.device) if wanted[1] else None
        d_bias = torch.zeros(bias.shape, dtype=torch.float32, device=bias.device) if wanted[2] else None
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        for begin in range(0, hidden.shape[0], TILE):
            rows, targets = hidden[begin:begin + TILE], labels[begin:begin + TILE]
            with_loss = (targets != -100).to(torch.float32)[:, None]
            targets = targets.clamp(min=0)[:, None]
            logits = torch.nn.functional.linear(rows, weight, bias).float()
            if scale != 1:
                logits.mul_(scale)
            if cap:
                logits.div_(cap).tanh_()
                slope = 1 - logits * logits
                logits.mul_(cap)
            most, of_target = logits.amax(-1, keepdim=True), logits.gather(1, targets)
            sums = logits.sub_(most).exp_().sum(-1, keepdim=True)
            total += ((most + sums.log() - of_target) * with_loss).sum()
            weights = with_loss * (scale / count)
            logits.mul_(weights / sums).scatter_add_(1, targets, -weights)
            if cap:
                logits.mul_(slope)
            d_logits = logits.to(rows.dtype)
            torch.mm(d_logits, weight, out=d_hidden[begin:begin + TILE])
            if wanted[1]:
                if rows.dtype == torch.float32:
                    d_weight.addmm_(d_logits.t(), rows)
                else:
                    d_weight += d_logits.t() @ rows
            if wanted[2]:
                d_bias += logits.sum(0)
        ctx.gradients = (d_hidden, d_weight, d_bias)
        ctx.dtypes = (hidden.dtype, weight.dtype, bias.dtype if bias is not None else None)
        return total / count

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, d):
        scaled = [g if g is None else g.mul_(d.to(g.dtype)).to(dtype) for g, dtype in zip(ctx.gradients, ctx.dtypes)]
        ctx.gradients = None
        return (*scaled, None, None, None, None)


class TiledHead:
    """Takes the place of a model's LM head and of transformers' causal loss while both are called with labels and
    gradients are wanted; the outputs then have no logits."""

    @classmethod
    def of(cls, model) -> "TiledHead | None":
        """None where the head is not linear, the loss another one, or what is between them not known."""
        from transformers.loss.loss_utils import ForCausalLMLoss

        head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
        if not isinstance(head, torch.nn.Linear) or getattr(model, "loss_function", None) is not ForCausalLMLoss:
            return None
        made = cls(model, head)
        return made if made._logits_go_on_as_they_are() else None

    def __init__(self, model, head):
        self.model, self.head = model, head
        self._with_labels = False
        config = model.config.get_text_config()
        self.cap = getattr(config, "final_logit_softcapping", None)
        self.scale = (getattr(model, "logit_scale", None) or 1.0) / (getattr(config, "logits_scaling", None) or 1.0)
        neutral = [(config, "final_logit_softcapping", None), (config, "logits_scaling", 1.0), (model, "logit_scale", 1.0)]
        self._neutral = [change for change in neutral if getattr(change[0], change[1], None) is not None]

    @property
    def tile_bytes(self) -> int:
        """Of a tile's logits and what is computed with them, and of the weight's gradient."""
        return 4 * (TILE * self.head.out_features * (2 if self.cap else 1) + self.head.weight.numel())

    @contextlib.contextmanager
    def _neither_scaled_nor_capped(self):
        """Within, the model's own code does nothing to what the head gives."""
        before = [(holder, name, getattr(holder, name)) for holder, name, _ in self._neutral]
        for change in self._neutral:
            setattr(*change)
        try:
            yield
        finally:
            for change in before:
                setattr(*change)

    def _logits_go_on_as_they_are(self) -> bool:
        """Looks at what the loss is given of the head's outputs for a few tokens."""
        seen = []
        tokens = torch.arange(8, device=self.head.weight.device)[None] % self.head.out_features
        hook = self.head.register_forward_hook(lambda module, args, out: seen.append(out))
        loss = self.model.__dict__.get("_loss_function")
        self.model.loss_function = lambda logits, *_, **__: seen.append(logits) or logits.sum()
        try:
            with self._neither_scaled_nor_capped(), torch.no_grad():
                self.model(input_ids=tokens, labels=tokens, use_cache=False)
        except Exception:  # whatever the model's code misses: it does not run on tokens alone, so it stays unknown
            return False
        finally:
            hook.remove()
            self._put_loss(loss)
        return len(seen) == 2 and torch.equal(*seen)

    def _put_loss(self, loss):
        if loss is None:
            self.model.__dict__.pop("_loss_function", None)
        else:
            self.model.loss_function = loss

    def patch(self):
        self._forwards = Forwards()
        self._loss = self.model.__dict__.get("_loss_function")
        self._plain_loss = self.model.loss_function
        self._forwards.replace(self.model, self._run_model)
        self._forwards.replace(self.head, lambda forward: lambda hidden: hidden if self._with_labels else forward(hidden))
        self.model.loss_function = self._run_loss

    def unpatch(self):
        self._forwards.restore()
        self._put_loss(self._loss)

    def _run_model(self, forward):
        def run(*args, **kwargs):
            self._with_labels = (kwargs.get("labels") is not None and self.model.training and torch.is_grad_enabled()
                                 and kwargs.get("logits_to_keep", 0) == 0)
            try:
                with self._neither_scaled_nor_capped() if self._with_labels else contextlib.nullcontext():
                    out = forward(*args, **kwargs)
            finally:
                with_labels, self._with_labels = self._with_labels, False
            if with_labels and hasattr(out, "logits"):
                out.logits = None
            return out
        return run

    def _run_loss(self, logits, labels, vocab_size, num_items_in_batch=None, ignore_index=-100, shift_labels=None,
                  **kwargs):
        if not self._with_labels:
            return self._plain_loss(logits=logits, labels=labels, vocab_size=vocab_size,
                                    num_items_in_batch=num_items_in_batch, ignore_index=ignore_index,
                                    shift_labels=shift_labels, **kwargs)
        if shift_labels is None:
            shift_labels = torch.nn.functional.pad(labels, (0, 1), value=ignore_index)[..., 1:]
        labels = shift_labels.reshape(-1).masked_fill(shift_labels.reshape(-1) == ignore_index, -100)
        count = num_items_in_batch if num_items_in_batch is not None else (labels != -100).sum()
        count = count if torch.is_tensor(count) else torch.tensor(count)
        return TiledLoss.apply(logits.reshape(-1, logits.shape[-1]), self.head.weight, self.head.bias, labels,
                               count.to(torch.float32), self.scale, self.cap)
