"""A rank of test_ranks.py: steps on a sequence split over the ranks, or on rows, weights by fully_shard or replicas; rank 0
writes losses and whole gradients."""

import os
import sys

import families
import memo.transformers_model
import torch
import torch.distributed as dist
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

import memo

out, family, strategy, split, dtype = sys.argv[1:]
torch.set_num_threads(1)
dist.init_process_group("gloo")
ranks, rank = dist.get_world_size(), dist.get_rank()
model = families.make(family)
precision = MixedPrecisionPolicy(param_dtype=getattr(torch, dtype), reduce_dtype=torch.float32)
if split == "replicas":
    model = torch.nn.parallel.DistributedDataParallel(model)
else:
    for layer in memo.transformers_model.TransformersModel(model).layers:
        fully_shard(layer, mp_policy=precision)
    fully_shard(model, mp_policy=precision)
generator = torch.Generator().manual_seed(10)
if split == "sequence":
    memo.attach(model, context=512 // ranks, block=64, strategy=strategy, sequence_group=dist.group.WORLD)
    ids = torch.randint(1, 97, (1, 500), generator=generator)
    inputs = memo.split_sequence(ids, ids, dist.group.WORLD, block=64)
else:
    memo.attach(model, context=384, block=128, strategy=strategy)
    ids = torch.randint(1, 97, (ranks, 377), generator=generator)[rank:rank + 1]
    inputs = dict(input_ids=ids, labels=ids)
for _ in range(2):
    model.zero_grad(set_to_none=True)
    loss = model(**inputs).loss
    loss.backward()
    mean = loss.detach().clone()
    dist.all_reduce(mean)
gradients = {name.removeprefix("module."): p.grad.full_tensor() if hasattr(p.grad, "full_tensor") else p.grad
             for name, p in model.named_parameters()}
if rank == 0:
    torch.save((mean.item() / ranks, gradients), out)
memo.detach(model)
dist.destroy_process_group()
sys.stdout.flush()
os._exit(0)  # Gloo's threads may let go of tensors while Python ends, which aborts
