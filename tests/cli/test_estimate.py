"""memo estimate as a user runs it: what it says of machines that are not here, and what it refuses."""

import csv

import pytest
from conftest import memo, write_job

PAPER = ["--model", "gpt-7b", "--hardware", "A800x8", "--context", "1048576"]


def estimate(*arguments):
    return memo("estimate", *arguments, "--json").json()["found"]


def test_the_papers_longest_run_fits():
    found = estimate(*PAPER)[0]
    assert found["fits"] and found["strategy"] == "memo"
    assert found["host_bytes_per_node"] > 0
    split = found["split_seconds"]
    assert sum(split.values()) == pytest.approx(found["step_seconds"], rel=1e-6)
    assert split["attention"] > 0.5 * found["step_seconds"]  # what a million tokens are about


def test_the_price_is_that_of_the_gpu_hours():
    found = estimate(*PAPER, "--price", "2")[0]
    hours = 1e9 / found["tokens_per_second_gpu"] / 3600
    assert found["gpu_hours_per_billion_tokens"] == pytest.approx(hours)
    assert found["price_per_billion_tokens"] == pytest.approx(2 * hours)


def test_a_search_lists_the_five_best_in_order():
    found = estimate("--model", "qwen2.5-3b", "--hardware", "H100x4", "--context", "65536", "--search")
    rates = [one["tokens_per_second_gpu"] for one in found]
    assert len(found) == 5 and rates == sorted(rates, reverse=True) and all(one["fits"] for one in found)


def test_given_degrees_are_kept():
    found = estimate(*PAPER, "--tensor", "8")[0]
    assert found["degrees"] == {"tensor": 8, "ring": 1, "ulysses": 1, "pipeline": 1, "data": 1}


def test_a_config_json_is_a_model(tmp_path):
    (tmp_path / "config.json").write_text(
        '{"model_type": "llama", "hidden_size": 2048, "num_hidden_layers": 16, "num_attention_heads": 32,'
        ' "num_key_value_heads": 8, "intermediate_size": 8192, "vocab_size": 32000, "max_position_embeddings": 4096}'
    )
    assert estimate("--model", tmp_path, "--hardware", "A100", "--context", "32768")[0]["fits"]


def test_what_does_not_fit_says_what_fills_the_device():
    refusal = memo("estimate", "--model", "gpt-65b", "--hardware", "A10", "--context", "65536", "--strategy", "megatron")
    assert "does not fit" in refusal.out or refusal.out == ""
    assert "65536 tokens do not fit A10" in refusal.refusal(3)


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--model", "gpt-8b", "--context", "4096"], "did you mean 'gpt-7b'"),
        (["--model", "gpt-7b", "--context", "4096", "--hardware", "A801x8"], "did you mean 'A800'"),
        (["--model", "gpt-7b", "--context", "4096", "--strategy", "megatrn"], "did you mean 'megatron'"),
        (["--model", "gpt-7b", "--context", "4096", "--tensor", "3"], "are 6 GPUs, not 8"),
        (
            ["--model", "gpt-7b", "--context", "4096", "--hardware", "A800x6", "--tensor", "6"],
            "does not divide the model's 32 heads",
        ),
        (["--model", "gpt-7b"], "give --model and --context"),
        (["--rows", "absent.csv", "-o", "out.csv"], "absent.csv"),
    ],
)
def test_bad_input_is_one_line(arguments, words):
    assert words in memo("estimate", *arguments).refusal(2)


def test_rows_gain_their_predictions(tmp_path):
    given = tmp_path / "in.csv"
    given.write_text(
        "id,model,hidden,layers,heads,kv_heads,ffn,vocab,gpu,n_gpus,seq_len,dp,shard,recompute\n"
        '1,"Llama3, 8B",4096,32,32,8,14336,128256,H100,8,8192,8,FSDP2,full\n'
        "2,Mixtral,4096,32,32,8,14336 x 8 experts,32000,H100,8,8192,8,FSDP2,full\n"
    )
    assert memo("estimate", "--rows", given, "-o", tmp_path / "out.csv").code == 0
    first, second = csv.DictReader((tmp_path / "out.csv").open())
    assert first["model"] == "Llama3, 8B" and float(first["pred_step_time_s"]) > 0 and first["pred_fits"] == "yes"
    assert second["pred_step_time_s"] == "" and "experts" in second["note"]


@pytest.mark.parametrize(
    "hardware, context, kernel",
    [("H100", 65536, "flash2"), ("H100", 131072, "cudnn"), ("A100", 131072, "flash2"), ("B200", 65536, "cudnn")],
)
def test_it_says_which_kernel_of_attention_it_assumed(hardware, context, kernel):
    """Memo's own: up to 65536 tokens one that adds gradients in one order, where its rate is known, and then the fastest."""
    arguments = ("--model", "qwen3-0.6b", "--hardware", hardware, "--context", context)
    assert estimate(*arguments)[0]["attention_kernel"] == kernel
    assert f"attention        by {kernel}: " in memo("estimate", *arguments).out


def test_a_kernel_of_attention_can_be_named():
    arguments = ("--model", "qwen3-0.6b", "--hardware", "H100", "--context", 131072, "--attention")
    seconds = {}
    for kernel in ("flash2", "cudnn"):
        found = estimate(*arguments, kernel)[0]
        assert found["attention_kernel"] == kernel
        seconds[kernel] = found["split_seconds"]["attention"]
    assert 1.5 < seconds["flash2"] / seconds["cudnn"] < 2  # as 345 and 330 to 640 and 540 TFLOP/s
    line = memo("estimate", *arguments, "flash4").refusal(2)
    assert "--attention flash4: of H100 the rates of flash2, flash3, cudnn are known" in line


QWEN3_8B = {"family": "qwen3", "hidden": 4096, "layers": 36, "heads": 32, "kv_heads": 8, "head_dim": 128, "ffn": 12288,
            "vocab": 151936, "dtype": "bfloat16"}  # fmt: skip


def test_a_plan_on_paper_is_proved_and_agrees_with_the_estimate(tmp_path):
    job, plan = (
        write_job(tmp_path / "job.toml", QWEN3_8B, {"context": 65536, "block": "auto"}, {"host_limit": "1TiB"}),
        tmp_path / "plan.json",
    )
    run = memo("plan", job, "--hardware", "H100", "-o", plan, "--json").json()
    assert memo("check", plan).code == 0
    found = estimate("--model", "qwen3-8b", "--hardware", "H100x1", "--context", "65536")[0]
    assert run["step_seconds"] == pytest.approx(found["step_seconds"], rel=0.01)


def test_a_plan_on_paper_does_not_run(job, tmp_path):
    file, plan = job(), tmp_path / "plan.json"
    assert memo("plan", file, "--hardware", "H100", "-o", plan).code == 0
    run = memo("train", file, "--plan", plan, "--out", tmp_path / "run")
    assert run.code == 2 and "the plan is for H100, on paper: nothing was measured" in run.err


@pytest.mark.parametrize("arguments, says", [
    (("--hardware", "H1000"), "unknown hardware 'H1000'"),
    (("--hardware", "H100", "--profile", "profile.json"), "--profile excludes --hardware"),
])  # fmt: skip
def test_hardware_of_a_plan_that_cannot_be(job, arguments, says):
    run = memo("plan", job(), *arguments)
    assert run.code != 0 and says in run.err
