"""make bundle: what its archive holds, and that a machine with neither network nor Debian's packages can configure from it."""

import re
import subprocess
import sys

import pytest
from conftest import REPOSITORY

MIB = 1 << 20
HEADERS = """CLI/CLI.hpp csv.h fmt/format.h gmock/gmock.h gtest/gtest.h liburing.h nlohmann/json.hpp openssl/configuration.h
openssl/evp.h tl/expected.hpp toml++/toml.h xxhash.h zlib.h""".split()
LIBRARIES = "crypto csv gmock gtest gtest_main uring xxhash z".split()
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
    return subprocess.run(command, capture_output=True, text=True, timeout=600)


def output(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=REPOSITORY).stdout


@pytest.mark.slow
@pytest.mark.skipif(not (REPOSITORY / ".git").exists(), reason="a bundle is made of a commit")
def test_a_bundle_is_enough_behind_a_wall(tmp_path):
    made = output("make", "-o", ".venv/.done", "bundle").split()
    archive = REPOSITORY / next(word for word in made if word.startswith("build/")).rstrip(":")
    assert archive.stat().st_size <= 50 * MIB

    output("tar", "-C", str(tmp_path), "-xf", str(archive))
    (tree,) = tmp_path.iterdir()
    third_party = tree / "third_party"
    files = {str(file.relative_to(tree)) for file in tree.rglob("*") if not file.is_dir()}
    assert {file for file in files if not file.startswith("third_party/")} == set(
        output("git", "ls-tree", "-r", "--name-only", "HEAD").split("\n")[:-1]
    )
    assert [header for header in HEADERS if not (third_party / "include" / header).is_file()] == []
    libraries = third_party / "lib" / "x86_64-linux-gnu"
    assert [name for name in LIBRARIES if not (libraries / f"lib{name}.a").is_file()] == []
    licences = {file.parent.name for file in third_party.glob("share/doc/*/copyright")}
    packages = set(re.findall(r"[\w.+-]+-dev\b|libjs-[\w.]+", (REPOSITORY / "Makefile").read_text()))
    assert licences == packages - {"python3-dev"}  # Python is the machine's
    assert (third_party / "highsbox/highs_dist/share/doc/HIGHS/LICENSE.txt").is_file()

    empty = tmp_path / "empty"
    empty.mkdir()
    if behind_the_wall("", empty).returncode != 0:
        pytest.skip("namespaces are not permitted here")
    run = behind_the_wall(HIDE + CONFIGURE, empty, tree, sys.executable)
    assert run.returncode == 0, run.stdout + run.stderr
    ninja = (tree / "build" / "build.ninja").read_text()
    linked = set(re.findall(r"(?<=\s)/\S+\.(?:a|so)(?:\.\d+)*(?=\s)", ninja))
    assert str(third_party / "highsbox/highs_dist/lib/libhighs.so") in linked
    assert [name for name in linked if not name.startswith(str(third_party)) and "/torch/lib/" not in name] == []
    assert not re.search("third_party/include .*torch/include", ninja), "LibTorch's fmt comes first for its headers"
