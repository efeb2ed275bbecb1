"""A rank of test_users_on_a_gpu.py: a step on its own row, on the GPU that LOCAL_RANK names; rank 0 writes the mean loss and
gradients."""

import os
import sys

import families
import torch
import torch.distributed as dist
from test_users_on_a_gpu import OPTIONS, batch_of

import memo

torch.set_num_threads(1)
dist.init_process_group("gloo")
local, ranks = int(os.environ["LOCAL_RANK"]), dist.get_world_size()
device = torch.device("cuda", local)
torch.cuda.set_device(ranks - 1 - local)
batch = {name: rows[local:local + 1].to(device) for name, rows in batch_of(377, 377).items()}
model = families.make("llama", torch.bfloat16).to(device)
free = torch.cuda.mem_get_info(ranks - 1 - local)[0]
with memo.attached(model, host_limit="64MiB", strategy="offload", **OPTIONS) as attachment:
    loss, gradients = families.step(model, **batch)
    assert attachment.departures == (0, []) and attachment.last["bytes_in"] > 0
assert torch.cuda.memory_allocated(device) > 0 and torch.cuda.memory_allocated(ranks - 1 - local) == 0
if "MEMO_EMULATED_DEVICES" in os.environ:  # each rank has devices of its own
    assert torch.cuda.mem_get_info(ranks - 1 - local)[0] == free
assert all(gradient.device == device for gradient in gradients.values())
sums = {name: gradient.float().cpu() for name, gradient in gradients.items()}
mean = torch.tensor(loss)
for value in [mean, *sums.values()]:
    dist.all_reduce(value)
    value /= ranks
if dist.get_rank() == 0:
    torch.save((mean.item(), sums), sys.argv[1])
dist.barrier()
dist.destroy_process_group()
sys.stdout.flush()
os._exit(0)  # Gloo's threads may let go of tensors while Python ends, which aborts
