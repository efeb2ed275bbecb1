"""Records the allocations of a small Transformers training loop on a CPU as a packing CSV, sizes rounded up to 64 bytes.

record_trace.py FAMILY LAYERS STEPS OUT.csv [--eager] [--checkpointing] [--scale N]     FAMILY: gpt2, llama, qwen3

Time counts mallocs and frees, as PyTorch's profiler saw them. The first step, which makes the optimizer's moments, is not
recorded; lengths of the samples vary from step to step. What is still alive at the end dies there.
"""

import argparse

import torch
from torch._C._profiler import _EventType
from torch.profiler import ProfilerActivity, profile
from transformers import AutoConfig, AutoModelForCausalLM

SHAPES = {
    "gpt2": dict(n_embd=64, n_head=4, n_positions=256),
    "llama": dict(hidden_size=64, intermediate_size=160, num_attention_heads=4, num_key_value_heads=2),
    "qwen3": dict(hidden_size=64, intermediate_size=192, num_attention_heads=4, num_key_value_heads=2, head_dim=16),
}
LENGTHS = [64, 48, 96, 80]  # tokens of the samples, in turn


def record(arguments: argparse.Namespace) -> list[tuple[int, int, int]]:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    layers = {"n_layer" if arguments.family == "gpt2" else "num_hidden_layers": arguments.layers}
    scaled = {"n_embd", "n_positions", "hidden_size", "intermediate_size", "n_head", "num_attention_heads", "num_key_value_heads"}
    shape = {k: v * arguments.scale if k in scaled else v for k, v in SHAPES[arguments.family].items()}
    config = AutoConfig.for_model(arguments.family, vocab_size=512 * arguments.scale, **shape, **layers)
    attention = "eager" if arguments.eager else "sdpa"
    model = AutoModelForCausalLM.from_config(config, attn_implementation=attention).train()
    if arguments.checkpointing:
        model.gradient_checkpointing_enable()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, foreach=False)

    def step(k: int) -> None:
        ids = torch.randint(0, 512, (2, LENGTHS[k % len(LENGTHS)] * arguments.scale))
        optimizer.zero_grad()
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()

    step(0)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        for k in range(arguments.steps):
            step(k)
    events = []  # (time, address, bytes; less than 0: freed)
    stack = list(profiler.profiler.kineto_results.experimental_event_tree())
    while stack:
        event = stack.pop()
        stack.extend(event.children)
        if event.typed[0] == _EventType.Allocation:
            events.append((event.start_time_ns, event.typed[1].ptr, event.typed[1].alloc_size))
    events.sort(key=lambda e: e[0])
    alive: dict[int, tuple[int, int]] = {}
    buffers = []
    for time, (_, address, size) in enumerate(events):
        if size > 0:
            alive[address] = (time, size)
        elif address in alive:
            born, size = alive.pop(address)
            buffers.append((born, time, size))
    buffers += [(born, len(events), size) for born, size in alive.values()]
    return sorted((born, dies, (size + 63) // 64 * 64) for born, dies, size in buffers)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("family", choices=sorted(SHAPES))
    parser.add_argument("layers", type=int)
    parser.add_argument("steps", type=int)
    parser.add_argument("out")
    parser.add_argument("--eager", action="store_true")
    parser.add_argument("--checkpointing", action="store_true")
    parser.add_argument("--scale", type=int, default=1, help="times the sizes of the model and the lengths of its samples")
    arguments = parser.parse_args()
    rows = record(arguments)
    with open(arguments.out, "w") as file:
        file.write("id,lower,upper,size\n")
        file.writelines(f"{i},{born},{dies},{size}\n" for i, (born, dies, size) in enumerate(rows))
    print(f"{arguments.out}: {len(rows)} buffers")


if __name__ == "__main__":
    main()
