"""Several processes on this machine (Gloo) against one: weights by fully_shard, rows or one sequence over the ranks."""

import os
import subprocess
import sys
from pathlib import Path

import families
import pytest
import torch
from torch.testing._internal.distributed.fake_pg import FakeStore

import memo

HERE = Path(__file__).parent
ENVIRONMENT = dict(os.environ, PYTHONPATH=os.pathsep.join([str(HERE.parents[1] / "build" / "python"), str(HERE)]))


def run(ranks, *arguments, script="rank_step.py"):
    return subprocess.run([sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks),
                           str(HERE / script), *map(str, arguments)], env=ENVIRONMENT, capture_output=True, text=True,
                          timeout=150)


@pytest.mark.parametrize("ranks, family, strategy, split, dtype", [
    (2, "mistral", "memo", "sequence", "float32"),
    *[pytest.param(*row, marks=pytest.mark.slow) for row in (
        (2, "llama", "recompute", "replicas", "float32"), (2, "llama", "recompute", "rows", "bfloat16"),
        (2, "llama", "recompute", "rows", "float32"), (2, "llama", "recompute", "sequence", "float32"),
        (4, "gpt_neox", "resident", "sequence", "float32"), (4, "llama", "resident", "sequence", "float32"),
        (2, "llama", "recompute", "sequence", "bfloat16"))]])
def test_ranks_together_do_what_one_does(ranks, family, strategy, split, dtype, tmp_path):
    done = run(ranks, tmp_path / "out.pt", family, strategy, split, dtype)
    assert done.returncode == 0, done.stderr[-3000:]
    generator = torch.Generator().manual_seed(10)
    ids = torch.randint(1, 97, (1, 500) if split == "sequence" else (ranks, 377), generator=generator)
    loss, gradients = families.differences(torch.load(tmp_path / "out.pt"),
                                           families.step(families.make(family), input_ids=ids, labels=ids))
    assert loss <= (1e-5 if dtype == "float32" else 2e-4) and gradients <= (1e-5 if dtype == "float32" else 3e-2)


def test_ranks_that_do_not_divide_the_heads_are_refused():
    torch.distributed.init_process_group("fake", store=FakeStore(), rank=0, world_size=3)
    try:
        with pytest.raises(ValueError, match="3 ranks do not divide the 4 heads and 2 key heads"):
            memo.attach(families.make("llama"), context=512, sequence_group=torch.distributed.group.WORLD)
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_a_killed_rank_ends_the_job_and_another_number_of_ranks_goes_on(tmp_path):
    died = run(4, tmp_path, "--die", 3, script="rank_train.py")
    assert died.returncode != 0 and "SIGKILL" in died.stderr
    resumed = run(2, tmp_path, script="rank_train.py")
    assert resumed.returncode == 0, resumed.stderr[-3000:]
    model, losses = families.make("gpt_neox"), []
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for step in range(1, 4):
        ids = torch.randint(1, 97, (1, 512), generator=torch.Generator().manual_seed(step))
        losses.append(model(input_ids=ids, labels=ids).loss)
        losses[-1].backward()
        optimizer.step()
        optimizer.zero_grad()
    lines = [line.split() for line in (tmp_path / "losses").read_text().splitlines()]
    assert [int(step) for step, _ in lines] == [1, 2, 3]
    assert [float(loss) for _, loss in lines] == pytest.approx([loss.item() for loss in losses], rel=1e-4)
