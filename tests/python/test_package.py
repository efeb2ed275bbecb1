"""What `pip install .` is told of the package; the wheel itself takes minutes to build (README.md)."""

import re
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import torch

import memo

REPOSITORY = Path(__file__).parents[2]
TORCH_HERE = REPOSITORY / "cmake" / "torch_here.py"


def test_the_version_is_that_of_cmake():
    entries = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["dynamic-metadata"]
    regex = next(entry["regex"] for entry in entries if entry.get("field") == "version")
    assert re.search(regex, (REPOSITORY / "CMakeLists.txt").read_text())["value"] == memo.__version__


def torch_here(python, **options):
    return subprocess.run([python, TORCH_HERE], capture_output=True, text=True, **options)


def test_torch_is_found_beyond_the_environment_that_pip_builds_in(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\nsys.path[:] = [folder for folder in sys.path if 'site-packages' not in folder]\n")
    isolated = {"PYTHONPATH": str(tmp_path), "PYTHONNOUSERSITE": "1"}
    assert subprocess.run([sys.executable, "-c", "import torch"], env=isolated, capture_output=True).returncode != 0
    assert torch_here(sys.executable, env=isolated).stdout.strip() == torch.__path__[0]


def test_without_torch_one_line_says_so(tmp_path):
    venv.create(tmp_path, with_pip=False)
    found = torch_here(tmp_path / "bin" / "python", env={})
    assert found.returncode == 1
    assert re.fullmatch(r"memo: \S+ has no torch: install torch 2\.11 to 2\.14 first.*\n", found.stderr)


def test_the_wheel_asks_for_the_minor_version_that_it_is_built_for():
    sys.path.insert(0, str(TORCH_HERE.parent))
    import torch_here as provider

    minor = ".".join(torch.__version__.split(".")[:2])
    assert provider.dynamic_metadata({}, {}) == {"dependencies": [f"torch=={minor}.*"]}
