"""The memory that Memo says a step will take on a GPU, against the peak that the emulated GPU (tests/cuda/torch) then sees."""

import subprocess
import sys

import emulated_gpu
import pytest

_STEPS = r'''
import emulated_torch
import families, gc, memo, sys, torch, transformers, warnings
warnings.simplefilter("ignore")
torch.set_num_threads(1)

def requested(which):
    """Blocks are up to 1 MiB larger than what tensors ask for, which is much for models as small as these."""
    gc.collect()
    return torch.cuda.memory_stats()["requested_bytes.all." + which]

def check(family, context, length, changes, options):
    before = requested("current")
    model = families.make(family, torch.bfloat16, **changes).cuda()
    ids = torch.randint(1, 97, (1, length), generator=torch.Generator().manual_seed(2)).cuda()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    with memo.attached(model, context=context, check=False, **options) as attachment:
        account = attachment.account
        for step in range(2):  # gradients and moments are there in the second
            torch.cuda.reset_peak_memory_stats()
            model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
            optimizer.step()
        assert attachment.departures == (0, [])
        peak = requested("peak") - before + attachment.plan.describe()["device_peak"]
    ratio = sum(account.values()) / peak
    print(f"{family} {context} {ratio:.4f} of {peak} {account}")
    return 0.98 <= ratio <= 1.02

results = [check(*row) for row in eval(sys.argv[1])]
assert all(results), results
'''
_WIDE = dict(hidden_size=256, intermediate_size=512, vocab_size=4096)
_HOST = {"block": 256, "strategy": "offload", "host_limit": "1GiB"}
_KEEP = {"block": 256, "strategy": "resident"}
_AGAIN = {"block": 512, "strategy": "recompute"}


# Family, context, tokens, changes of the configuration, options. Lengths that fill the context and that do not.
@pytest.mark.skipif(not emulated_gpu.BUILT, reason="not built")
@pytest.mark.parametrize("rows", [
    [("llama", 2048, 2000, {}, _HOST)],
    pytest.param([("llama", 4096, 4096, _WIDE, _KEEP), ("llama", 1024, 1000, _WIDE | {"num_hidden_layers": 6}, _HOST),
                  ("qwen3", 2048, 2048, _WIDE, _AGAIN), ("qwen3", 4096, 3900, {}, _HOST),
                  ("qwen2", 2048, 1999, _WIDE | {"vocab_size": 16384}, _HOST)], marks=pytest.mark.slow),
    pytest.param([("mistral", 2048, 2048, {"hidden_size": 128}, _KEEP), ("gpt2", 1024, 1000, {"n_embd": 128}, _HOST),
                  ("gpt_neox", 2048, 2048, {}, _AGAIN), ("olmo2", 3072, 3000, {}, _KEEP),
                  ("phi3", 1024, 1024, _WIDE, _HOST)], marks=pytest.mark.slow),
])
def test_the_account_is_what_the_device_sees(rows):
    ran = subprocess.run([sys.executable, "-c", _STEPS, repr(rows)], capture_output=True, text=True, timeout=400,
                         env=emulated_gpu.environment(pace="prompt"))
    assert ran.returncode == 0, ran.stdout + ran.stderr[-2000:]
