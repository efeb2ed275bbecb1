"""memo pack as a user runs it: what it decides, writes and says."""

import random
import signal
import time

import pytest
from conftest import REPOSITORY, memo, start

DSA = REPOSITORY / "tests" / "data" / "dsa"


@pytest.mark.parametrize("name", ["A", "D", "E", "K"])
def test_published_capacities_are_decided(name):
    packing = memo("pack", DSA / f"{name}.1048576.csv", "--capacity", "1048576", "--time-limit", "60", "--json").json()
    assert packing["status"] == "optimal" and packing["peak"] <= 1048576


def test_the_peak_is_minimised_and_proved():
    packing = memo("pack", DSA / "A.1048576.csv", "--time-limit", "60", "--json").json()
    assert (packing["status"], packing["peak"], packing["gap"]) == ("optimal", 1048576, 0)


def test_the_mixed_integer_program_agrees():
    packing = memo("pack", DSA / "example.12.csv", "--method", "mip", "--json").json()
    assert (packing["status"], packing["peak"]) == ("optimal", 12)


def test_bytes_in_a_gap_are_free_for_others(tmp_path):
    table = tmp_path / "gaps.csv"
    table.write_text("id,lower,upper,size,gaps\na,0,9,8,3-6\nb,3,6,8,\n")
    assert memo("pack", table, "--json").json()["peak"] == 8


def test_a_seed_and_a_thread_count_give_the_same_packing(tmp_path):
    def packed(out):
        memo("pack", DSA / "K.1048576.csv", "--seed", 3, "--threads", 2, "--time-limit", 60, "-o", out)
        return out.read_text()

    assert packed(tmp_path / "a.csv") == packed(tmp_path / "b.csv")


def test_the_first_interrupt_writes_the_best_so_far(tmp_path):
    """Of so many buffers that the search does not end by itself."""
    chance, count = random.Random(1), 100_000
    table, out = tmp_path / "table.csv", tmp_path / "packed.csv"
    with table.open("w") as file:
        file.write("id,lower,upper,size\n")
        for i in range(count):
            lower, long = chance.randrange(count), i % 50 == 0
            upper = lower + 1 + chance.randrange(count // 4 if long else 100)
            file.write(f"{i},{lower},{upper},{chance.randrange(512, 32768)}\n")
    process = start("pack", table, "--time-limit", 100, "-o", out)
    time.sleep(2)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert out.read_text().startswith("id,lower,upper,size,offset\n")


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--time-limit", "0"], ["--time-limit", "above 0"]),
        (["--threads", "0"], ["--threads"]),
        (["--method", "magic"], ["--method"]),
    ],
)
def test_bad_options_are_refused(arguments, words):
    line = memo("pack", DSA / "example.12.csv", *arguments).refusal(2)
    assert all(word in line for word in words), line
