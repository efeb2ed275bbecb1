"""LM head and cross entropy in tiles of tokens, so that logits never exist as a whole."""

import torch

TILE = 512  # tokens, on a CPU


def first_order(backward):
    """Makes a backward refuse to be differentiated: its gradients of gradients would silently be wrong."""

    def run(ctx, d):
        if torch.is_grad_enabled():
            raise RuntimeError("memo: gradients of gradients (create_graph=True) are not computed for an attached model")
        return backward(ctx, d)

    return run


class TiledLoss(torch.autograd.Function):
    """Cross entropy of hidden [N, h] through weight [V, h] (bias [V] or None) against labels [N]: the mean over labels other
    than `ignore_index`, or the sum. Logits are multiplied by `scale`, and capped as cap tanh(logits / cap) unless cap is None.
    Logits of `tile` rows exist at a time. The mean's gradients are computed with the loss, and scaled in backward."""

    @staticmethod
    def forward(ctx, hidden, weight, bias, labels, ignore_index, mean, scale, cap, tile):
        wanted = ctx.needs_input_grad
        d_hidden = torch.empty_like(hidden) if wanted[0] else None
        d_weight = torch.zeros(weight.shape, dtype=torch.float32, device=weight.device) if wanted[1] else None
        d_bias = torch.zeros(bias.shape, dtype=torch.float32, device=bias.device) if wanted[2] else None
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        count = (labels != ignore_index).sum().to(torch.float32)
        for begin in range(0, hidden.shape[0], tile):
            rows, targets = hidden[begin:begin + tile], labels[begin:begin + tile]
            with_loss = (targets != ignore_index).to(torch.float32)[:, None]
            targets = targets.masked_fill(targets == ignore_index, 0)[:, None]
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
            if not any(wanted):
                continue
            weights = with_loss * (scale / count.clamp(min=1))
            logits.mul_(weights / sums).scatter_add_(1, targets, -weights)
            if cap:
                logits.mul_(slope)
            d_logits = logits.to(rows.dtype)
            if wanted[0]:
                torch.mm(d_logits, weight, out=d_hidden[begin:begin + tile])
            if wanted[1]:
                if rows.dtype == torch.float32:
                    d_weight.addmm_(d_logits.t(), rows)
                elif rows.is_cuda:
                    torch.ops.aten.addmm.dtype_out(d_weight, d_logits.t(), rows, torch.float32, out=d_weight)
                else:
                    d_weight += d_logits.t() @ rows
            if wanted[2]:
                d_bias += logits.sum(0)
            del logits, d_logits  # before the next tile's
        ctx.save_for_backward(d_hidden, d_weight, d_bias, count)
        ctx.mean = mean
        ctx.dtypes = (hidden.dtype, weight.dtype, bias.dtype if bias is not None else None)
        return total / count if mean else total

    @staticmethod
    @first_order
    def backward(ctx, d):
        *gradients, count = ctx.saved_tensors
        d = d if ctx.mean else d * count
        d = d.masked_fill(count == 0, 0)  # without a label, d is infinite or not a number, and gradients are 0
        if torch._C._autograd._get_current_graph_task_keep_graph():  # another backward may follow
            gradients = [g if g is None else g * d for g in gradients]
        else:
            gradients = [g if g is None else g.mul_(d) for g in gradients]
        return (*(g if g is None else g.to(dtype) for g, dtype in zip(gradients, ctx.dtypes)), *[None] * 6)
