"""make bundle: what its archive holds, and that a machine with neither network nor Debian's packages can configure from it."""

import re
import subprocess
import sys

import pytest
from conftest import REPOSITORY

MIB = 1 << 20
HEADERS = """CLI/CLI.hpp csv.h fmt/format.h gmock/gmock.h gtest/gtest.h liburing.h nlohmann/json.hpp openssl/configuration.h
openssl/evp.h tl/expected.hpp toml++/toml.h xxhash.h zlib.h""".split()
LIBRARIES = "crypto csv gmock gtest gtest_main uring xxhash".split()
# In a namespace of its own: no network, and a /usr whose changes are gone afterwards. $1: an empty folder.
WALL = """
mount -t tmpfs none "$1"
mkdir "$1/changed" "$1/work"
mount -t overlay overlay -o "lowerdir=/usr,upperdir=$1/changed,workdir=$1/work" /usr
"""
HIDE = 'dpkg -L $(ls "$2/third_party/share/doc") | while read -r file; do [ -d "$file" ] || rm -f "$file"; done\n'
CONFIGURE = 'make -C "$2" build/build.ninja PYTHON="$3"\n'


def behind_the_wall(script, *arguments):
    command = ["unshare", "--map-root-user", "--mount", "--net", "sh", "-ec", WALL + script, "sh", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=1800)


def output(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=REPOSITORY).stdout


BUILD = """
cd "$2"
cmake -S . -B build -DMEMO_CUDA=ON
cmake --build build --target test_cuda_gpu memo_python
build/tests/test_cuda_gpu
"""


pytestmark = [pytest.mark.slow, pytest.mark.skipif(not (REPOSITORY / ".git").exists(), reason="a bundle is made of a commit")]


@pytest.fixture(scope="module")
def archive():
    made = output("make", "-o", ".venv/.done", "bundle").split()
    return REPOSITORY / next(word for word in made if word.startswith("build/")).rstrip(":")


@pytest.fixture(scope="module")
def tree(archive, tmp_path_factory):
    """An unpacked bundle."""
    folder = tmp_path_factory.mktemp("bundle")
    output("tar", "-C", str(folder), "-xf", str(archive))
    (tree,) = folder.iterdir()
    return tree


@pytest.fixture
def empty(tmp_path):
    """A folder for the wall."""
    folder = tmp_path / "empty"
    folder.mkdir()
    if behind_the_wall("", folder).returncode != 0:
        pytest.skip("namespaces are not permitted here")
    return folder


def test_what_a_bundle_holds(archive, tree):
    assert archive.stat().st_size <= 50 * MIB
    third_party = tree / "third_party"
    files = {str(file.relative_to(tree)) for file in tree.rglob("*") if not file.is_dir()}
    assert {file for file in files if not file.startswith(("third_party/", "build/", ".venv/"))} == set(
        output("git", "ls-tree", "-r", "--name-only", "HEAD").split("\n")[:-1]
    )
    assert [header for header in HEADERS if not (third_party / "include" / header).is_file()] == []
    libraries = third_party / "lib" / "x86_64-linux-gnu"
    assert [name for name in LIBRARIES if not (libraries / f"lib{name}.a").is_file()] == []
    assert (libraries / "libz.so").is_file() and not (libraries / "libz.a").exists()
    licences = {file.parent.name for file in third_party.glob("share/doc/*/copyright")}
    packages = set(re.findall(r"[\w.+-]+-dev\b|libjs-[\w.]+", (REPOSITORY / "Makefile").read_text()))
    assert licences == packages - {"python3-dev"}  # Python is the machine's
    assert (third_party / "highsbox/highs_dist/share/doc/HIGHS/LICENSE.txt").is_file()
    for python in range(10, 15):
        assert list(third_party.glob(f"wheels/greenlet-*-cp3{python}-*.whl"))


def test_wheels_that_a_python_lacks_are_installed_without_a_network(tree, empty, tmp_path):
    bare, folder = tmp_path / "bare", tmp_path / "site"
    output(sys.executable, "-m", "venv", str(bare))
    script = '"$2/scripts/bundled_wheels" "$3" "$4"; PYTHONPATH="$4" "$3" -c "import greenlet, dill; print(greenlet.__file__)"'
    ran = behind_the_wall(script, empty, tree, bare / "bin/python", folder)
    assert ran.returncode == 0 and str(folder) in ran.stdout, ran.stderr
    again = behind_the_wall('PYTHONPATH="$4" "$2/scripts/bundled_wheels" "$3" "$4"', empty, tree, bare / "bin/python", folder)
    assert again.returncode == 0 and again.stdout == again.stderr == ""


def test_a_bundle_is_enough_behind_a_wall(tree, empty):
    third_party = tree / "third_party"
    run = behind_the_wall(HIDE + CONFIGURE, empty, tree, sys.executable)
    assert run.returncode == 0, run.stdout + run.stderr
    ninja = (tree / "build" / "build.ninja").read_text()
    linked = set(re.findall(r"(?<=\s)/\S+\.(?:a|so)(?:\.\d+)*(?=\s)", ninja))
    assert str(third_party / "highsbox/highs_dist/lib/libhighs.so") in linked
    assert [name for name in linked if not name.startswith(str(third_party)) and "/torch/lib/" not in name] == []
    assert not re.search("third_party/include .*torch/include", ninja), "LibTorch's fmt comes first for its headers"
    assert "-Werror" not in ninja, "another compiler may warn of more"


def test_the_cuda_backend_and_the_python_module_are_built_and_linked(tree, empty):
    """Behind the wall; with NVIDIA's runtime, and where there is no GPU the backend's tests then say so."""
    run = behind_the_wall(HIDE + CONFIGURE + BUILD, empty, tree, sys.executable)
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
    assert re.search(r"\[  PASSED  \]", run.stdout)
