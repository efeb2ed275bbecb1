"""Where layers run: what is refused by name, and the plain model's results on the emulated GPU (tests/cuda/torch) and, where
there is one, on a GPU."""

import subprocess
import sys
import threading
from types import SimpleNamespace

import emulated_gpu
import families
import pytest
import test_own_model
import torch

import memo
from memo import _core, devices

on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


def layer_on(*places):
    """What a layer with a parameter on each of these devices shows of itself."""
    parameters = [(f"w{i}", SimpleNamespace(device=torch.device(place))) for i, place in enumerate(places)]
    return SimpleNamespace(named_parameters=lambda: parameters)


@pytest.mark.skipif(torch.version.cuda is not None, reason="a PyTorch for CUDA")
def test_a_build_without_cuda_refuses_a_model_on_a_gpu():
    with pytest.raises(memo.UnsupportedModel, match=r"^layers\.0: w0 is on cuda:0; this build of memo is for the CPU"):
        devices.of(["layers.0"], [layer_on("cuda:0")])
    with pytest.raises(ValueError, match="for the CPU"):
        _core.open_device(torch.device("cuda"))


def test_layers_on_another_device_are_refused_by_name():
    model = families.make("llama").to("meta")
    with pytest.raises(memo.UnsupportedModel, match=r"layers\.0 .*: self_attn\.q_proj\.weight is on meta; "):
        memo.attach(model, context=256)
    model = families.make("llama")
    model.model.layers[1].to("meta")
    with pytest.raises(memo.UnsupportedModel, match=r"layers\.1 .*q_proj\.weight is on meta, .*layers\.0 .* on cpu"):
        memo.attach(model, context=256)
    with pytest.raises(memo.UnsupportedModel, match=r"b: w0 is on cuda:1, a: w0 on cuda:0"):
        devices.of(["a", "b"], [layer_on("cuda:0"), layer_on("cuda:1")])


def test_a_model_that_is_moved_after_it_was_attached_is_refused(ids):
    model = test_own_model.make()
    memo.attach(model, context=256, block=128, check=False, **test_own_model.EXAMPLE)
    with pytest.raises(ValueError, match="moved from cpu to meta; attach it there"):
        model.to("meta")(ids[:, :256].to("meta"))


def test_attention_that_no_kernel_has_is_refused_by_name():
    devices.check_attention("l", "cpu", torch.float32, 5.0, 320)
    with pytest.raises(memo.UnsupportedModel, match=r"^model\.layers\.0 .*: no kernel of the CPU has attention for float16; it"):
        memo.attach(families.make("llama", torch.float16), context=256)


def test_work_in_backward_gives_what_it_returns_and_what_it_raises():
    with torch.no_grad():
        assert devices.in_backward("cpu", lambda: (threading.get_ident(), 3)) == (threading.get_ident(), 3)
    with pytest.raises(memo.UnsupportedModel, match="so it is"):
        devices.in_backward("cpu", lambda: devices.check_attention("so it is", "cuda", torch.float32, None, 64))


@pytest.mark.parametrize("options", [{"strategy": "recompute"}, {"strategy": "offload", "disk": "/var/tmp"}])
def test_backward_on_a_thread_of_its_own_gives_the_same_bits(options, ids):
    """As autograd runs it on a GPU."""
    model = families.make("llama")
    with memo.attached(model, context=384, block=128, **options) as attachment:
        _, same = families.step(model, input_ids=ids, labels=ids)
        for _ in range(2):
            model.zero_grad(set_to_none=True)
            thread = threading.Thread(target=model(input_ids=ids, labels=ids).loss.backward)
            thread.start()
            thread.join()
            assert all(torch.equal(p.grad, same[name]) for name, p in model.named_parameters())
        assert attachment.departures == (0, [])


_STEPS = """
import emulated_torch
import families, memo, sys, torch, warnings
torch.set_num_threads(1)
def check(family, place, length, batch, options):
    ids = torch.randint(1, 97, (batch, length), generator=torch.Generator().manual_seed(2)).to(place)
    mask = torch.ones_like(ids)
    if batch > 1:
        mask[0, length // 2:] = 0
    given = dict(input_ids=ids, attention_mask=mask, labels=ids.masked_fill(mask == 0, -100))
    model = families.make(family, torch.bfloat16).to(place)
    floats = lambda step: (step[0], {name: g.float() for name, g in step[1].items()})
    exact = floats(families.step(families.make(family, torch.bfloat16).float().to(place), **given))
    plain = families.differences(floats(families.step(model, **given)), exact)
    with warnings.catch_warnings(record=True) as said, memo.attached(model, context=384, block=128, **options) as attachment:
        assert attachment._head.tile == attachment.block == 128
        said = [str(one.message) for one in said]
        assert [line for line in said if " GiB: what " + str(model.device) + " has free, less a reserve" in line], said
        for _ in range(2):
            ours = families.differences(floats(families.step(model, **given)), exact)
            assert ours[0] <= 1e-2 and ours[1] <= 2 * plain[1], (ours, plain)
        assert attachment.departures == (0, [])
        assert attachment.last["bytes_in"] > 0 or options["strategy"] != "offload"
for row in eval(sys.argv[1]):
    check(*row)
"""
_HOST = {"strategy": "offload", "host_limit": "1GiB"}


# Lengths that are no plan's, a batch with padding, every kind of tier, and a second GPU while the first is current.
@pytest.mark.skipif(not emulated_gpu.BUILT, reason="not built")
@pytest.mark.parametrize(("pace", "rows"), [
    ("random", [("llama", "cuda", 150, 2, {"strategy": "offload", "disk": "/var/tmp"}), ("llama", "cuda:1", 300, 1, _HOST)]),
    pytest.param("prompt", [("llama", "cuda", 384, 1, {"strategy": "recompute"})], marks=pytest.mark.slow),
    pytest.param("late", [("llama", "cuda:1", 300, 1, _HOST), ("llama", "cuda", 300, 1, _HOST),
                          ("mistral", "cuda", 377, 1, {"strategy": "recompute"})], marks=pytest.mark.slow),
])
def test_on_the_emulated_gpu_results_are_the_plain_model_s(pace, rows):
    ran = subprocess.run([sys.executable, "-c", _STEPS, repr(rows)], capture_output=True, text=True, timeout=300,
                         env=emulated_gpu.environment(devices=2, pace=pace))
    assert ran.returncode == 0, ran.stderr[-2000:]


@on_gpu
@pytest.mark.parametrize("options", [{"strategy": "resident"}, {"strategy": "recompute"}, {"head_groups": 2},
                                     {"strategy": "offload", "host_limit": "1GiB"},
                                     {"strategy": "offload", "disk": "/var/tmp"}])
def test_loss_and_gradients_on_a_gpu_are_the_plain_model_s(options, ids):
    model, ids = families.make("llama", torch.bfloat16).cuda(), ids.cuda()
    exact = families.step(families.make("llama", torch.bfloat16).float().cuda(), input_ids=ids, labels=ids)
    floats = lambda step: (step[0], {name: g.float() for name, g in step[1].items()})
    plain = families.differences(floats(families.step(model, input_ids=ids, labels=ids)), exact)
    with memo.attached(model, context=384, block=128, **options) as attachment:
        for _ in range(2):
            ours = families.differences(floats(families.step(model, input_ids=ids, labels=ids)), exact)
            assert ours[0] <= 1e-2 and ours[1] <= 2 * plain[1]
        assert attachment.departures == (0, [])
        if options.get("strategy") == "offload":
            assert attachment.last["bytes_out"] > 0


@on_gpu
def test_a_step_on_a_stream_of_its_own_is_refused(ids):
    model, ids = families.make("llama", torch.bfloat16).cuda(), ids.cuda()
    memo.attach(model, context=384, block=128)
    with torch.cuda.stream(torch.cuda.Stream()), pytest.raises(RuntimeError, match="default stream"):
        model(input_ids=ids, labels=ids)
