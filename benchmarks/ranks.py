"""One sequence over 1, 2 and 4 ranks of this machine (Gloo, fully_shard, memo's attach): memory of a rank over its base,
loss, seconds of a step. Ranks have one thread each, so that more of them than cores say nothing about speed.

    PYTHONPATH=build/python .venv/bin/python benchmarks/ranks.py --context 8192 --steps 3
"""

import argparse
import json
import os
import sys
import time

import plugin


def run(options):
    """A rank; the first prints what all measured as JSON."""
    import torch
    import torch.distributed as dist
    from torch.distributed.fsdp import fully_shard

    import memo

    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    group, ranks = dist.group.WORLD, dist.get_world_size()
    ids = plugin.text_ids(plugin.make_tokenizer())
    watch = plugin.Peak()
    watch.start()
    model = plugin.make_model(options.model)
    for layer in model.model.layers:
        fully_shard(layer)
    fully_shard(model)
    attachment = memo.attach(model, context=options.context // ranks, strategy=options.strategy, sequence_group=group)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4)
    losses, times = [], []
    for step in range(options.steps):
        begun = time.monotonic()
        row = torch.tensor(ids[step * options.context:(step + 1) * options.context])[None]
        loss = model(**memo.split_sequence(row, row, group)).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        mean = loss.detach().clone()
        dist.all_reduce(mean)
        losses.append(mean.item() / ranks)
        times.append(time.monotonic() - begun)
    watch.running = False
    memory = [None] * ranks
    dist.all_gather_object(memory, watch.peak - watch.base)
    if dist.get_rank() == 0:
        print("RESULT " + json.dumps({"memory": max(memory), "losses": losses, "seconds": min(times),
                                      "planned": attachment.plan.describe()["device_peak"]}), flush=True)
    memo.detach(model)
    dist.destroy_process_group()
    sys.stdout.flush()
    os._exit(0)  # as in tests/python/rank_step.py


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--context", type=int, default=8192, help="of all ranks together")
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--model", choices=("llama", "qwen3"), default="llama")
    parser.add_argument("--strategy", default="recompute")
    parser.add_argument("--rank", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.rank:
        return run(options)
    first = None
    for ranks in options.ranks:
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks), __file__,
                   "--rank", *sys.argv[1:]]
        r = plugin.result_of(f"{ranks} ranks", command, dict(os.environ, OMP_NUM_THREADS="1"))
        first = first or r
        print(f"{options.model} {options.context} over {ranks}: {r['memory'] / 1e6:.0f} MB a rank over base "
              f"({r['memory'] / first['memory']:.2f}), {r['planned'] / 1e6:.0f} MB of it planned, losses within "
              f"{plugin.difference(r['losses'], first['losses']):.1e}, {r['seconds']:.1f} s a step", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
