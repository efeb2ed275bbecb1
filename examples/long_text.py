# %% [markdown]
# # Training on long text in little memory
#
# A small Llama reads the King James Bible, 4096 tokens at a time: first by itself, then attached to Memo. It runs cell by cell
# in Jupyter and VS Code, or as a script in less than a minute: `python examples/long_text.py`

# %%
import ctypes
import os
import re
from pathlib import Path

import memo
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

CONTEXT, STEPS = int(os.environ.get("CONTEXT", 4096)), int(os.environ.get("STEPS", 4))
FOLDER = Path(__file__).parent if "__file__" in globals() else Path.cwd()

tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(FOLDER / "text/tokenizer.json"))
text = (FOLDER / "text/kjv.txt").read_text()[:10 * CONTEXT * STEPS]
windows = tokenizer(text, return_tensors="pt").input_ids[:, :CONTEXT * STEPS].split(CONTEXT, dim=1)

torch.manual_seed(0)
model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), hidden_size=256, intermediate_size=768, num_hidden_layers=4,
                                     num_attention_heads=4, max_position_embeddings=CONTEXT))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

# %% [markdown]
# ## By itself
#
# An ordinary training step, and the most memory that the process had meanwhile, as Linux tells it. What was freed before goes
# back to the system first. Libraries, weights and AdamW's moments are in every figure.


# %%
def train_step(window):
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak is that from here on
    loss = model(input_ids=window, labels=window).loss
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    peak = int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024
    print(f"loss {loss.item():.4f}, {peak:.0f} MiB")
    return loss.item()


plain = [train_step(window) for window in windows[:2]]

# %% [markdown]
# ## Attached
#
# One line. What backward needs is kept, written to the disk or computed again, so that weights, gradients, AdamW's moments and
# everything else of a step stay within `device_limit`. The plan says before the first step how: `device_peak` is the memory that
# it uses itself, `bytes_out` what goes to the disk, `stall_seconds` how long compute waits for it.

# %%
attachment = memo.attach(model, context=CONTEXT, device_limit="256MiB", disk="/var/tmp")
for name, value in attachment.plan.describe().items():
    print(f"{name}: {value}")

# %% [markdown]
# The training step stays as it is. `last` tells of the last one what the plan predicted.

# %%
losses = [train_step(window) for window in windows]
for name, value in attachment.last.items():
    print(f"{name}: {value}")
print(f"device_peak: {attachment.device_peak}")

# %% [markdown]
# Where each tensor lies, and when it travels, as a page to open in a browser:

# %%
memo.report(model, "long_text.html")

# %% [markdown]
# ## Detached
#
# The model's own code again, with what it has learned: after so few steps, where commas go.

# %%
memo.detach(model)
prompt = tokenizer("And God said", return_tensors="pt").input_ids
print(tokenizer.decode(model.generate(prompt, max_new_tokens=10, do_sample=False)[0]))
