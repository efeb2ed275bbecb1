"""Faults that a real GPU hides, or shows rarely, are found by name on the emulated one. They are planted in the emulation
(tests/cuda/torch/planted.h), so what is tested is the command as it ships."""

import re

import pytest
from test_cuda import EMULATED, MODEL, TRAIN, bits, on_gpu

pytestmark = pytest.mark.skipif(not EMULATED.is_file(), reason="a build with a LibTorch for CUDA")
ON_GPU = {"device": "cuda", "host_limit": "64MiB"}
BACKWARD = "aten::_flash_attention_backward"


@pytest.fixture
def train(folder, job):
    """train(plant, pace, ...): a run with every activation on the host tier, and a fault."""
    def run(plant, pace, *arguments, model=MODEL, train=None, **environment):
        file = job(model=model, train=TRAIN | {"steps": 2} | (train or {}), memory=ON_GPU)
        arguments = ["--out", folder / f"out {plant}", "--strategy", "offload", "--json", *arguments]
        return on_gpu(pace, "train", file, *arguments, MEMO_EMULATED_PLANT=plant, **environment)
    return run


def test_a_host_read_of_device_memory_ends_the_run_with_its_address(train):
    run = train(f"read {BACKWARD}", "late")
    assert run.code < 0
    assert re.search(rf"the host touched the emulated GPU's memory: address 0x[0-9a-f]+ of cuda:0, after {BACKWARD}\n", run.err)


def test_a_missing_event_is_found_by_the_tensor_that_was_read_too_early(train):
    line = train("omit cudaStreamWaitEvent", "late").refusal(5)
    assert re.search(r"call \d+ \(.*, layer \d, block \d\) reads \S+, layer \d, block \d without content", line), line


def test_a_temporary_that_was_not_recorded_is_a_departure_with_segment_and_bytes(folder, job, train):
    plan = folder / "plan.json"
    file = job(model=MODEL, train=TRAIN | {"steps": 2}, memory=ON_GPU)
    assert on_gpu("prompt", "plan", file, "--strategy", "offload", "-o", plan).code == 0
    run = train("temporary aten::addmm.out", "random", "--plan", plan).json()
    assert run["first_departure"] == ("attn_out (layer 0, block 0): allocation 1 of 4096 bytes went to the heap: the plan has "
                                      "no such request")
    assert run["departures"] > 1


def test_an_operator_that_makes_the_host_wait_is_counted_by_its_name(folder, train):
    plant = f"wait {BACKWARD}"
    assert train(plant, "late", "--check=off", MEMO_EMULATED_WAITS=str(folder / "waits")).code == 0
    lines = (line.split(" ", 1) for line in (folder / "waits").read_text().splitlines())
    waits = {what: int(count) for count, what in lines}
    assert waits[f"{BACKWARD}: cudaStreamSynchronize"] >= MODEL["layers"] * 2


def test_an_order_of_sums_that_varies_shows_in_the_digest_of_gradients(train):
    """Of a sequence that is long enough: a sum of few numbers rounds to the same in most orders."""
    model = MODEL | {"layers": 2, "hidden": 256, "heads": 32, "kv_heads": 8, "ffn": 64}

    def run(plant):
        return bits(train(plant, "prompt", "--check=off", model=model, train={"context": 700, "block": 350}).json())

    assert run("") != run("any-order")
