"""A rank of test_ranks.py that trains for a few steps on one split sequence: a checkpoint after each, from which any number
of ranks goes on. With --die, rank 1 is killed in the middle of that step."""

import argparse
import os
import signal
import sys
from pathlib import Path

import families
import memo.transformers_model
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.fsdp import fully_shard

import memo

parser = argparse.ArgumentParser()
parser.add_argument("folder", type=Path)
parser.add_argument("--steps", type=int, default=3)
parser.add_argument("--die", type=int)
options = parser.parse_args()
torch.set_num_threads(1)
dist.init_process_group("gloo")
model = families.make("gpt_neox")
for layer in memo.transformers_model.TransformersModel(model).layers:
    fully_shard(layer)
fully_shard(model)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
done = max((int(path.name) for path in options.folder.glob("[0-9]*") if (path / ".metadata").exists()), default=0)
if done:
    state = dict(zip(("model", "optimizer"), get_state_dict(model, optimizer)))
    dcp.load(state, checkpoint_id=options.folder / str(done))
    set_state_dict(model, optimizer, model_state_dict=state["model"], optim_state_dict=state["optimizer"])
group = dist.group.WORLD
memo.attach(model, context=512 // dist.get_world_size(), block=64, strategy="recompute", sequence_group=group)
for step in range(done + 1, options.steps + 1):
    ids = torch.randint(1, 97, (1, 512), generator=torch.Generator().manual_seed(step))
    loss = model(**memo.split_sequence(ids, ids, group)).loss
    if step == options.die and dist.get_rank() == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    mean = loss.detach().clone()
    dist.all_reduce(mean)
    if dist.get_rank() == 0:
        with open(options.folder / "losses", "a") as losses:
            print(step, mean.item() / dist.get_world_size(), file=losses)
    state = dict(zip(("model", "optimizer"), get_state_dict(model, optimizer)))
    dcp.save(state, checkpoint_id=options.folder / str(step))
memo.detach(model)
dist.destroy_process_group()
sys.stdout.flush()
os._exit(0)  # Gloo's threads may let go of tensors while Python ends, which aborts
