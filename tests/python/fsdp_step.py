"""A rank of test_fsdp.py: fully_shard, attach, two steps; rank 0 writes losses and whole gradients."""

import sys

import families
import memo
import torch
import torch.distributed as dist
from torch.distributed.fsdp import fully_shard

out, strategy = sys.argv[1:]
torch.set_num_threads(1)
dist.init_process_group("gloo")
model = families.make("llama")
for layer in model.model.layers:
    fully_shard(layer)
fully_shard(model)
if strategy != "plain":
    memo.attach(model, context=384, block=128, strategy=strategy)
ids = torch.randint(1, 97, (1, 377), generator=torch.Generator().manual_seed(10 + dist.get_rank()))
steps = []
for _ in range(2):
    model.zero_grad(set_to_none=True)
    loss = model(input_ids=ids, labels=ids).loss
    loss.backward()
    dist.all_reduce(loss_sum := loss.detach().clone())
    steps.append((loss_sum.item() / dist.get_world_size(),
                  {name: p.grad.full_tensor() for name, p in model.named_parameters()}))
if dist.get_rank() == 0:
    torch.save(steps, out)
dist.destroy_process_group()
