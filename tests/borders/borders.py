"""Reads off a tree's files where its folders use what they may not, where documents name what is not there, and which sources
open without a sentence on their purpose."""

import collections
import itertools
import re
import subprocess
from pathlib import Path

SOURCES = (".h", ".cpp", ".cu")
OPENED = ("memo/", "python/", "tests/", "benchmarks/", "scripts/", "cmake/")  # whose sources say what they are for
COMMENTS = {".h": "// ", ".cpp": "// ", ".cu": "// ", ".js": "// ", ".py": '"""', ".pyi": '"""', ".cmake": "# ",
            "CMakeLists.txt": "# "}
NAMED = re.compile(r"`([\w./*-]+\.(?:h|cpp|cu|py|js|cmake|md|sh))`|\]\(([\w./-]+\.\w+)(?:#[\w-]*)?\)")
MOST_FILES, MOST_LINES = 42, 0.2


def tracked(root):
    listed = subprocess.run(["git", "-C", root, "ls-files"], capture_output=True, text=True)
    files = listed.stdout.split("\n")[:-1] if listed.returncode == 0 and listed.stdout else [
        str(path.relative_to(root)) for path in Path(root).rglob("*") if path.is_file()]
    return [file for file in files if (Path(root) / file).is_file()]


def table(root):
    """{folder: those it may use}, as docs/architecture.md has it: | `folder` | uses | what it is |."""
    rows = {}
    for line in (Path(root) / "docs" / "architecture.md").read_text().splitlines():
        if match := re.match(r"\| `([\w/]+)` \|([^|]*)\|", line):
            rows[match[1]] = set(re.findall(r"[\w/]+", match[2]))
    return rows


def room(path, rooms):
    """The folder of the table that a file of memo/ lies in, or None."""
    folder = str(Path(path).parent).removeprefix("memo/")
    while folder != "." and folder not in rooms:
        folder = str(Path(folder).parent)
    return None if folder == "." else folder


def faults(root):
    """A line for each thing that is not as the table and the documents say."""
    rooms, files = table(root), tracked(root)
    return [*_order(rooms), *_includes(root, rooms, files), *_sizes(root, files), *_documents(root, files),
            *openings(root, files)]


def _order(rooms):
    left = dict(rooms)
    while free := [folder for folder, uses in left.items() if not uses & left.keys()]:
        for folder in free:
            del left[folder]
    if left:
        yield f"docs/architecture.md: folders use each other in a circle: {', '.join(sorted(left))}"
    for folder, uses in rooms.items():
        for other in sorted(uses - rooms.keys()):
            yield f"docs/architecture.md: {folder} may use {other}, which is no folder of the table"


def _includes(root, rooms, files):
    for file in files:
        if not file.startswith("memo/") or not file.endswith(SOURCES):
            continue
        own, text = room(file, rooms), (Path(root) / file).read_text()
        if own is None:
            yield f"{file}: its folder is not in the table of docs/architecture.md"
            continue
        for included in re.findall(r'^#include "(memo/[^"]+)"', text, re.M):
            other = room(included, rooms)
            if other != own and other not in rooms[own]:
                yield f"{file}: includes {included}; {own} may not use {other}"
        name = own.split("/")[0]
        for space in re.findall(r"^namespace memo::(\w+)", text, re.M):
            if space != name:
                yield f"{file}: namespace memo::{space} lies in {own}"


def _sizes(root, files):
    counts, lines = collections.Counter(), collections.Counter()
    for file in files:
        if file.startswith(("memo/", "python/")):
            folder = str(Path(file).parent)
            counts[folder] += 1
            lines[folder] += (Path(root) / file).read_text(errors="replace").count("\n")
    for folder, count in counts.items():
        if count > MOST_FILES:
            yield f"{folder}: {count} files; split it"
        if lines[folder] > MOST_LINES * lines.total() and lines.total() > 10_000:
            yield f"{folder}: {lines[folder] / lines.total():.0%} of all lines; split it"


def _documents(root, files):
    ends = {"/" + file for file in files}
    for document in files:
        if not document.endswith(".md"):
            continue
        for code, link in NAMED.findall((Path(root) / document).read_text()):
            if code and "*" not in code and not any(end.endswith("/" + code) for end in ends):
                yield f"{document}: names {code}, which is not there"
            if link and not (Path(root) / document).parent.joinpath(link).exists():
                yield f"{document}: has a link to {link}, which is not there"


def _opening(file, text):
    """The comment or docstring with which a source begins, behind the line that names its interpreter; "" without one."""
    lines = text.splitlines()
    script = bool(lines) and lines[0].startswith("#!")
    end = next((end for end in COMMENTS if file.endswith(end)), ".py" if script and "python" in lines[0] else ".cmake")
    lines, mark = lines[script:], COMMENTS[end]
    if not lines or not lines[0].startswith(mark):
        return ""
    if mark == '"""':
        return "\n".join(lines)[len(mark):].partition(mark)[0].strip()
    return " ".join(line[len(mark):] for line in itertools.takewhile(lambda line: line.startswith(mark), lines))


def openings(root, files):
    """Sources that do not open with a sentence on what they are for, and those that only repeat their header's."""
    opening = {}
    for file in files:
        source = file.endswith(tuple(COMMENTS)) or file.startswith("scripts/")
        if file == "CMakeLists.txt" or source and file.startswith(OPENED):
            opening[file] = _opening(file, (Path(root) / file).read_text())
            if not re.match(r"(\S+\s+){2,}\S*[.:]", opening[file]):
                yield f"{file}: does not open with a sentence that says what it is for"
    for file, text in opening.items():
        if file.endswith(".cpp") and text and opening.get(file[:-3] + "h") == text:
            yield f"{file}: opens as its header does; say what this file adds to it"
