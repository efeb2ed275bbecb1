"""Folders use those that the table of docs/architecture.md allows, documents name what is there, and sources open with their
purpose; planted faults are found."""

import shutil
from pathlib import Path

import pytest
from borders import faults, openings

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
    ("memo/sim/planted.h", "#pragma once", "does not open with a sentence"),
])
def test_a_planted_fault_is_found(tree, file, line, says):
    found = planted(tree, file, line)
    assert any(says in fault for fault in found), found


def test_a_folder_that_grows_too_large_is_found(tree):
    for n in range(50):
        (tree / "memo" / "sim" / f"more{n}.cpp").write_text("// One file of too many.\n")
    assert any("memo/sim: 52 files" in fault for fault in faults(tree))


@pytest.mark.parametrize("file, text", [
    ("memo/sim/more.cpp", '#include "memo/sim/simulate.h"\n'),
    ("memo/sim/more.h", "#pragma once\n// Too late: what a file is for comes first.\n"),
    ("memo/kernels/more.cu", "//\n// An empty line first.\n"),
    ("memo/report/page/more.js", "const more = 1;  // Not an opening.\n"),
    ("python/memo/more.py", "import torch\n"),
    ("python/memo/more.pyi", "# A comment instead of a docstring.\n"),
    ("tests/sim/more_test.cpp", "// Words.\n"),
    ("tests/cli/test_more.py", ""),
    ("benchmarks/more.py", '"""More"""\n'),
    ("benchmarks/CMakeLists.txt", "function(more)\n"),
    ("scripts/more", "#!/bin/sh\nset -e\n"),
    ("scripts/more.py", "#!/usr/bin/env python3\nimport os\n"),
    ("cmake/more.cmake", "set(more ON)\n"),
    ("CMakeLists.txt", "project(more)\n"),
])
def test_a_source_without_an_opening_is_found(tmp_path, file, text):
    path = tmp_path / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    assert list(openings(tmp_path, [file])) == [f"{file}: does not open with a sentence that says what it is for"]
    mark = {".cpp": "//", ".h": "//", ".cu": "//", ".js": "//"}.get(path.suffix, "#")
    sentence = "Shows what a file is for."
    opened = f'"""{sentence}"""' if path.suffix in (".py", ".pyi") else f"{mark} {sentence}"
    first, _, rest = text.partition("\n")
    path.write_text(f"{first}\n{opened}\n{rest}" if text.startswith("#!") else f"{opened}\n{text}")
    assert list(openings(tmp_path, [file])) == []


def test_an_opening_that_repeats_the_header_s_is_found(tmp_path):
    for name in ("more.h", "more.cpp"):
        (tmp_path / "memo").mkdir(exist_ok=True)
        (tmp_path / "memo" / name).write_text("// Shows what a file is for.\n")
    found = list(openings(tmp_path, ["memo/more.h", "memo/more.cpp"]))
    assert found == ["memo/more.cpp: opens as its header does; say what this file adds to it"]


def test_the_validator_links_nothing_of_the_planner():
    lines = (REPOSITORY / "CMakeLists.txt").read_text().splitlines()
    (check,) = [line for line in lines if line.startswith("memo_library(check ")]
    assert check == "memo_library(check memo_plan)"
    (plan,) = [line for line in lines if line.startswith("memo_library(plan ")]
    assert plan == "memo_library(plan memo_model)"
