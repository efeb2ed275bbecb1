"""A rank of test_users_on_a_gpu.py: a step on its own row, or on its part of a sequence, on the GPU that LOCAL_RANK names; rank 0
writes the mean loss and gradients."""

import os
import sys
from types import SimpleNamespace

import families
import torch
import torch.distributed as dist
from test_users_on_a_gpu import OPTIONS, batch_of

import memo


def exchange_by_host(out, given, group=None, async_op=False):
    """all_to_all_single, as Gloo for CUDA does it: Gloo of a PyTorch for the CPU would touch the device's memory itself."""
    arrived, sent = torch.empty(out.shape, dtype=out.dtype), given.cpu()
    work = own_exchange(arrived, sent, group=group, async_op=True)
    return SimpleNamespace(wait=lambda: (work.wait(), out.copy_(arrived)), sent=sent)


path, split = sys.argv[1:]
torch.set_num_threads(1)
dist.init_process_group("gloo")
local, ranks, options = int(os.environ["LOCAL_RANK"]), dist.get_world_size(), dict(OPTIONS)
emulated = "MEMO_EMULATED_DEVICES" in os.environ
device = torch.device("cuda", local)
torch.cuda.set_device(ranks - 1 - local)
if split == "rows":
    batch = {name: rows[local:local + 1].to(device) for name, rows in batch_of(377, 377).items()}
else:
    own_exchange = dist.all_to_all_single
    if emulated:
        dist.all_to_all_single = exchange_by_host
    ids = batch_of(377)["input_ids"].to(device)
    batch = memo.split_sequence(ids, ids, dist.group.WORLD, block=64)
    options = dict(context=192, block=64, sequence_group=dist.group.WORLD)
model = families.make("llama", torch.bfloat16).to(device)
free = torch.cuda.mem_get_info(ranks - 1 - local)[0]
with memo.attached(model, host_limit="64MiB", strategy="offload", **options) as attachment:
    loss, gradients = families.step(model, **batch)
    assert attachment.departures == (0, []) and (attachment.last["bytes_in"] > 0 or split == "sequence")
assert torch.cuda.memory_allocated(device) > 0 and torch.cuda.memory_allocated(ranks - 1 - local) == 0
if emulated:  # each rank has devices of its own
    assert torch.cuda.mem_get_info(ranks - 1 - local)[0] == free
assert all(gradient.device == device for gradient in gradients.values())
sums = {name: gradient.float().cpu() for name, gradient in gradients.items()}
mean = torch.tensor(loss)
for value in [mean, *sums.values()]:
    dist.all_reduce(value)
    value /= ranks
if dist.get_rank() == 0:
    torch.save((mean.item(), sums), path)
dist.barrier()
dist.destroy_process_group()
sys.stdout.flush()
os._exit(0)  # Gloo's threads may let go of tensors while Python ends, which aborts
