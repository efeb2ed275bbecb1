"""Folders use those that the table of docs/architecture.md allows, and documents name what is there; planted faults are found."""

import shutil
from pathlib import Path

import pytest
from borders import faults

REPOSITORY = Path(__file__).parents[2]


def test_this_tree():
    assert faults(REPOSITORY) == []


@pytest.fixture
def tree(tmp_path):
    """A copy of what is looked at."""
    for folder in ("memo", "docs", "python"):
        shutil.copytree(REPOSITORY / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for document in REPOSITORY.glob("*.md"):
        shutil.copy(document, tmp_path)
    for folder in ("tests", "scripts", "benchmarks", "examples", "cmake"):  # documents name their files
        (tmp_path / folder).symlink_to(REPOSITORY / folder)
    return tmp_path


def planted(tree, file, line):
    before = set(faults(tree))
    with open(tree / file, "a") as out:
        out.write(line + "\n")
    return set(faults(tree)) - before


@pytest.mark.parametrize("file, line, says", [
    ("memo/check/data.cpp", '#include "memo/planner/placement.h"', "check may not use planner"),
    ("memo/planner/build.cpp", '#include "memo/libtorch/memory/arena.h"', "planner may not use libtorch/memory"),
    ("memo/libtorch/kernels/norm.cpp", '#include "memo/libtorch/train/trainer.h"', "libtorch/kernels may not use libtorch/train"),
    ("memo/store/manifest.cpp", '#include "memo/nowhere/manifest.h"', "store may not use None"),
    ("memo/sim/simulate.h", "namespace memo::plan {}", "namespace memo::plan lies in sim"),
    ("README.md", "See `memo/plan/gone.cpp`.", "names memo/plan/gone.cpp, which is not there"),
    ("docs/formats.md", "See [there](gone.md).", "has a link to gone.md, which is not there"),
    ("docs/architecture.md", "| `base` | planner | a circle |", "in a circle"),
])
def test_a_planted_fault_is_found(tree, file, line, says):
    found = planted(tree, file, line)
    assert any(says in fault for fault in found), found


def test_a_folder_that_grows_too_large_is_found(tree):
    for n in range(50):
        (tree / "memo" / "sim" / f"more{n}.cpp").write_text("")
    assert any("memo/sim: 52 files" in fault for fault in faults(tree))


def test_the_validator_links_nothing_of_the_planner():
    lines = (REPOSITORY / "CMakeLists.txt").read_text().splitlines()
    (check,) = [line for line in lines if line.startswith("memo_library(check ")]
    assert check == "memo_library(check memo_plan)"
    (plan,) = [line for line in lines if line.startswith("memo_library(plan ")]
    assert plan == "memo_library(plan memo_model)"
