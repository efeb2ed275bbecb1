"""LM head and cross entropy in tiles of tokens: the logits never exist whole."""

import functools

import torch

from memo.layers import own_forwards, put_forwards

TILE = 512  # tokens


class TiledLoss(torch.autograd.Function):
    """Mean cross entropy, or sum over `count`, of hidden [N, h] through weight [V, h] (bias [V] or None) against labels
    [N]; -100 has no loss. Gradients are computed with the loss, and scaled in backward."""

    @staticmethod
    def forward(ctx, hidden, weight, bias, labels, count):
        wanted = (hidden.requires_grad, weight.requires_grad, bias is not None and bias.requires_grad)
        d_hidden = torch.empty_like(hidden)
        d_weight = torch.zeros(weight.shape, dtype=torch.float32, device=weight.device) if wanted[1] else None
        d_bias = torch.zeros(bias.shape, dtype=torch.float32, device=bias.device) if wanted[2] else None
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        for begin in range(0, hidden.shape[0], TILE):
            rows, targets = hidden[begin:begin + TILE], labels[begin:begin + TILE]
            with_loss = (targets != -100).to(torch.float32)
            targets = targets.clamp(min=0)[:, None]
            logits = torch.nn.functional.linear(rows, weight, bias).float()
            log_sum = logits.logsumexp(-1)
            total += ((log_sum - logits.gather(1, targets)[:, 0]) * with_loss).sum()
            logits.sub_(log_sum[:, None]).exp_()
            logits.scatter_add_(1, targets, torch.full_like(logits[:, :1], -1.0))
            logits.mul_((with_loss / count)[:, None])
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
        return (*scaled, None, None)


class TiledHead:
    """Takes the place of a model's LM head and of transformers' causal loss while both are called with labels and
    gradients are wanted; the outputs then have no logits."""

    @staticmethod
    def fits(model) -> bool:
        from transformers.loss.loss_utils import ForCausalLMLoss

        head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
        config = model.config.get_text_config()
        scaled = any(getattr(config, name, None) not in (None, 1, 1.0) for name in
                     ("final_logit_softcapping", "logits_scaling", "logit_scale"))
        return (isinstance(head, torch.nn.Linear) and not scaled
                and getattr(model, "loss_function", None) is ForCausalLMLoss)

    def __init__(self, model):
        self.model, self.head = model, model.get_output_embeddings()
        self._with_labels = False

    def patch(self):
        self._forwards = own_forwards([self.model, self.head])
        self._loss = self.model.__dict__.get("_loss_function")
        self._plain_loss = self.model.loss_function
        model_forward, head_forward = self.model.forward, self.head.forward

        def run_model(*args, **kwargs):
            self._with_labels = (kwargs.get("labels") is not None and self.model.training and torch.is_grad_enabled()
                                 and kwargs.get("logits_to_keep", 0) == 0)
            try:
                out = model_forward(*args, **kwargs)
            finally:
                with_labels, self._with_labels = self._with_labels, False
            if with_labels and hasattr(out, "logits"):
                out.logits = None
            return out

        def run_head(hidden):
            return hidden if self._with_labels else head_forward(hidden)

        self.model.forward = functools.wraps(model_forward)(run_model)
        self.head.forward = run_head
        self.model.loss_function = self._run_loss

    def unpatch(self):
        put_forwards(self._forwards)
        if self._loss is None:
            self.model.__dict__.pop("_loss_function", None)
        else:
            self.model.loss_function = self._loss

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
                               count.to(torch.float32))
