"""What users do with an attached model on a GPU: trainers, autocast, checkpointing, saving, ranks. Where there is no GPU, one
process with the emulated one (tests/cuda/torch) runs the tests of this file."""

import copy
import os
import subprocess
import sys
from pathlib import Path

import emulated_gpu
import families
import pytest
import torch
import transformers

import memo
from memo import devices

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
OPTIONS = dict(context=384, block=128)
on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


@pytest.mark.skipif(torch.cuda.is_available() or not emulated_gpu.BUILT, reason="a GPU, or not built")
@pytest.mark.parametrize("which", [[], pytest.param(["--only-slow"], marks=pytest.mark.slow)])
def test_all_of_it_on_the_emulated_gpu(which):
    tests = [HERE / "test_users_on_a_gpu.py", HERE / "test_devices.py"]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "emulated_torch", "-p", "no:cacheprovider", *which, *map(str, tests),
               "-k", "on_a_gpu_is or stream_of_its_own"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=300, env=emulated_gpu.environment(), cwd=ROOT)
    assert ran.returncode == 0 and "skipped" not in ran.stdout, ran.stdout[-4000:] + ran.stderr[-2000:]


def on_cpu(step):
    """A step's loss, and its gradients as float32 on the CPU."""
    return step[0], {name: g.float().cpu() for name, g in step[1].items()}


def check_like(ours, plain, exact):
    """`ours` is as near to float32's step as the plain model's in bfloat16 is."""
    loss, gradients = families.differences(on_cpu(ours), on_cpu(exact))
    _, of_plain = families.differences(on_cpu(plain), on_cpu(exact))
    assert loss <= 1e-2 and gradients <= 2 * of_plain, (loss, gradients, of_plain)


def batch_of(*lengths):
    """Rows of these lengths, padded at their ends."""
    generator = torch.Generator().manual_seed(2)
    ids, mask = torch.zeros(2, len(lengths), max(lengths), dtype=torch.long)
    for row, length in enumerate(lengths):
        ids[row, :length] = torch.randint(1, 97, (length,), generator=generator)
        mask[row, :length] = 1
    return dict(input_ids=ids, attention_mask=mask, labels=ids.masked_fill(mask == 0, -100))


def there(batch):
    return {name: values.pin_memory().to("cuda", non_blocking=True) for name, values in batch.items()}


@pytest.mark.slow
@on_gpu
def test_a_padded_batch_on_a_gpu_is_the_plain_model_s():
    batch = batch_of(131, 50, 77)
    exact = families.step(families.make("qwen3"), **batch)
    plain = families.step(families.make("qwen3", torch.bfloat16), **batch)
    model = families.make("qwen3", torch.bfloat16).cuda()
    with memo.attached(model, **OPTIONS) as attachment:
        check_like(families.step(model, **there(batch)), plain, exact)
        assert attachment.departures == (0, [])


@pytest.mark.skipif("MEMO_EMULATED_LIBRARY" not in os.environ, reason="only the emulated GPU counts waits")
def test_the_host_on_a_gpu_is_not_made_to_wait_within_a_step():
    """At the end of backward it waits for three streams and reads the clock; the first step is watched. (With an attention_mask
    it also looks whether the mask hides anything, as the plain model does.)"""
    model = families.make("llama", torch.bfloat16).to("cuda")
    batch = there(batch_of(377))
    del batch["attention_mask"]
    with memo.attached(model, host_limit="64MiB", strategy="offload", **OPTIONS):
        model(**batch).loss.backward()
        before = emulated_gpu.waits()
        loss = model(**batch).loss
        assert emulated_gpu.waits() == before
        loss.backward()
        assert emulated_gpu.waits() - before == {"cudaEventSynchronize": 4}


@on_gpu
def test_autocast_on_a_gpu_is_the_plain_model_s():
    """Of a float32 model, attached within it."""
    batch = batch_of(301)
    model = families.make("llama").cuda()
    exact = families.step(families.make("llama"), **batch)
    with pytest.raises(memo.UnsupportedModel, match=r"attention for float32; it takes bfloat16: .*autocast"):
        memo.attach(model, **OPTIONS)
    with torch.autocast("cuda", torch.bfloat16):
        plain = families.step(model, **there(batch))
        with memo.attached(model, **OPTIONS) as attachment:
            check_like(families.step(model, **there(batch)), plain, exact)
            assert attachment.departures == (0, [])
            with torch.autocast("cuda", enabled=False), pytest.raises(memo.UnsupportedModel, match="takes bfloat16: .*autocast"):
                model(**there(batch))
            check_like(families.step(model, **there(batch)), plain, exact)
    assert all(p.grad.dtype == torch.float32 for p in model.parameters())


@on_gpu
def test_attention_that_no_kernel_has_on_a_gpu_is_refused_by_name():
    devices.check_attention("l", "cuda", torch.bfloat16, None, 256)
    for dtype, softcap, head_dim, why in ((torch.float32, None, 64, "float32; it takes bfloat16: attach and train within"),
                                          (torch.bfloat16, 5.0, 64, "a soft cap of the scores"),
                                          (torch.bfloat16, None, 320, "heads of 320 values; it takes multiples of 8 up to 256"),
                                          (torch.bfloat16, None, 20, "heads of 20 values; it takes multiples of 8 up to 256")):
        with pytest.raises(memo.UnsupportedModel, match=rf"^layers\.3: no kernel of a GPU has attention for {why}"):
            devices.check_attention("layers.3", "cuda", dtype, softcap, head_dim)


@on_gpu
def test_cudnn_s_attention_on_a_gpu_is_the_plain_model_s():
    """Of one document, which need not fill its blocks; of several it is refused."""
    batch = batch_of(301)
    exact = families.step(families.make("qwen3"), **batch)
    plain = families.step(families.make("qwen3", torch.bfloat16), **batch)
    model = families.make("qwen3", torch.bfloat16).cuda()
    with memo.attached(model, attention="cudnn", **OPTIONS) as attachment:
        assert attachment.plan.describe()["attention"] == "cudnn"
        check_like(families.step(model, **there(batch)), plain, exact)
        assert attachment.departures == (0, [])
        with pytest.raises(ValueError, match="memo: cudnn has no attention for several documents in a sequence"):
            model(**there(batch_of(131, 50)))
    with pytest.raises(ValueError, match="there is no kernel of attention 'flash9', but flash2, cudnn"):
        memo.attach(model, attention="flash9", **OPTIONS)


@on_gpu
@pytest.mark.parametrize("tier", [{"host_limit": "64MiB"}, pytest.param({"disk": "/var/tmp"}, marks=pytest.mark.slow)])
def test_memory_of_lengths_that_take_turns_on_a_gpu_is_taken_once_and_given_back(tier):
    """Though the last loss is still there."""
    counts = getattr(sys.modules.get("emulated_torch"), "calls", lambda function: 0)  # of a real GPU the free memory tells
    batches = {length: there(batch_of(length)) for length in (384, 150)}
    model, free, digests = families.make("llama", torch.bfloat16).cuda(), [], {}
    with memo.attached(model, strategy="offload", check=False, **OPTIONS, **tier) as attachment:
        for _ in range(3):
            for length, batch in batches.items():
                model.zero_grad(set_to_none=True)
                loss = model(**batch).loss
                loss.backward()
                digest = [loss.detach(), *(p.grad.clone() for p in model.parameters())]
                assert all(map(torch.equal, digest, digests.setdefault(length, digest)))
                assert attachment.device_peak <= attachment.plan.describe()["device_peak"] + 4096
            if not free:  # PyTorch's allocator has enough from here on
                [torch.empty(1 << 20, dtype=torch.uint8, device="cuda") for _ in range(16)].clear()
            free.append([torch.cuda.mem_get_info()[0], counts("cudaMalloc"), counts("cudaHostRegister")])
        torch.cuda.empty_cache()
        arena, before = attachment.plan.describe()["device_peak"], torch.cuda.mem_get_info()[0]
    assert free[1] == free[2] and torch.cuda.mem_get_info()[0] >= before + arena


@pytest.mark.slow
@on_gpu
def test_gradient_checkpointing_on_a_gpu_is_the_plan_s_choice():
    batch = batch_of(301)
    exact = families.step(families.make("llama"), **batch)
    model = families.make("llama", torch.bfloat16).cuda()
    plain = families.step(model, **there(batch))
    model.gradient_checkpointing_enable()
    check_like(families.step(model, **there(batch)), plain, exact)
    with memo.attached(model, **OPTIONS) as attachment:
        with pytest.warns(UserWarning, match="gradient_checkpointing is turned off"):
            check_like(families.step(model, **there(batch)), plain, exact)
        assert attachment.departures == (0, [])


@pytest.mark.slow
@on_gpu
def test_what_is_saved_on_a_gpu_is_what_is_loaded(tmp_path):
    """Weights by save_pretrained, weights and AdamW's state by torch.save; the next step has the same loss and moments."""
    batch = there(batch_of(301))
    model = families.make("llama", torch.bfloat16).cuda()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

    def train(model, optimizer):
        loss = model(**batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss.item()

    with memo.attached(model, **OPTIONS):
        train(model, optimizer)
        model.save_pretrained(tmp_path)
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
        torch.save(state, tmp_path / "state.pt")
        loss = train(model, optimizer)

        state = torch.load(tmp_path / "state.pt", map_location="cuda")
        assert all(value.device.type == "cuda" for value in state["model"].values())
        loaded = type(model).from_pretrained(tmp_path, dtype=torch.bfloat16).cuda()
        assert all(torch.equal(value, state["model"][name]) for name, value in loaded.state_dict().items())
        other = families.make("llama", torch.bfloat16).cuda()
        other.load_state_dict(state["model"])
        its = torch.optim.AdamW(other.parameters(), lr=1e-3)
        its.load_state_dict(state["optimizer"])
        with memo.attached(other, **OPTIONS):
            assert train(other, its) == loss
        for ours, theirs in zip(optimizer.state.values(), its.state.values()):
            torch.testing.assert_close(theirs["exp_avg"], ours["exp_avg"], rtol=2e-2, atol=1e-5)


@on_gpu
def test_sft_trainer_with_packed_documents_on_a_gpu_is_the_plain_model_s(tmp_path):
    """With TRL's own settings: a float32 model, autocast, gradient checkpointing; several documents in a row without padding."""
    datasets, tokenizers, trl = map(pytest.importorskip, ("datasets", "tokenizers", "trl"))
    generator = torch.Generator().manual_seed(5)
    rows = [{"input_ids": torch.randint(1, 97, (n,), generator=generator).tolist()}
            for n in (150, 90, 120, 31, 300, 77, 20, 150, 99, 140, 201, 9)]
    rows = datasets.Dataset.from_list(rows)
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({f"w{i}": i for i in range(97)}, unk_token="w0"))
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=words, pad_token="w0", eos_token="w1")
    steps = []

    class Gradients(transformers.TrainerCallback):
        def on_pre_optimizer_step(self, args, state, control, model=None, **given):
            steps[-1].append({name: p.grad.float().cpu() for name, p in model.named_parameters()})

    def train(model, **arguments):
        steps.append([])
        settings = dict(per_device_train_batch_size=1, max_steps=2, logging_steps=1, report_to=[], save_strategy="no",
                        disable_tqdm=True, learning_rate=1e-2, optim="sgd", max_grad_norm=0, seed=1, max_length=300,
                        packing=True)
        config = trl.SFTConfig(output_dir=str(tmp_path), **settings | arguments)
        if config.n_gpu > 1:
            config._n_gpu = 1  # one of several GPUs, not DataParallel
        trainer = trl.SFTTrainer(model, args=config, train_dataset=rows, processing_class=tokenizer, callbacks=[Gradients()])
        trainer.train()
        return list(zip([entry["loss"] for entry in trainer.state.log_history if "loss" in entry], steps.pop()))

    model = families.make("qwen3")
    exact = train(copy.deepcopy(model), use_cpu=True, bf16=False)
    plain = train(copy.deepcopy(model), use_cpu=True)
    with torch.autocast("cuda", torch.bfloat16):
        attachment = memo.attach(model.cuda(), **OPTIONS)
    ours = train(model)
    assert attachment.departures == (0, [])
    assert len(ours) == 2 and torch.cuda.max_memory_allocated() > 0
    for step in zip(ours, plain, exact):
        check_like(*step)


@pytest.mark.skipif(torch.cuda.device_count() < 2 if torch.cuda.is_available() else not emulated_gpu.BUILT,
                    reason="no second GPU")
@pytest.mark.slow
@pytest.mark.parametrize("split", ["rows", "sequence"])
def test_ranks_run_on_the_gpu_of_their_parameters(split, tmp_path):
    """torchrun's LOCAL_RANK names it; the current device is another one."""
    environment, program = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}, []
    if not torch.cuda.is_available():
        environment, program = emulated_gpu.environment(devices=2), [ROOT / "benchmarks" / "gpu" / "on_emulated.py"]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *program,
               HERE / "gpu_rank.py", tmp_path / "out.pt", split]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=150, env=environment)
    assert ran.returncode == 0, ran.stderr[-3000:]
    batch = batch_of(377, 377) if split == "rows" else batch_of(377)
    check_like(torch.load(tmp_path / "out.pt"), families.step(families.make("llama", torch.bfloat16), **batch),
               families.step(families.make("llama"), **batch))
