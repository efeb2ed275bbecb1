"""The torch of the environment that is installed to, although pip builds in one of its own.

CMake runs this file for torch's folder. scikit-build-core asks it for the wheel's dependency on torch: C++ links with the
libraries of one minor version.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

OLDEST, NEWEST = (2, 11), (2, 14)
_FIND = "import importlib.util as u; print(u.find_spec('torch').submodule_search_locations[0])"
_FIRST = "install torch {}.{} to {}.{} first".format(*OLDEST, *NEWEST)


def folder():
    """torch's folder for this Python: as it was called, else beyond what pip's environment shows it."""
    beyond = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONNOUSERSITE")}
    for environment in (None, beyond):
        found = subprocess.run([sys.executable, "-c", _FIND], env=environment, capture_output=True, text=True)
        if found.returncode == 0:
            return Path(found.stdout.strip())
    raise SystemExit(f"memo: {sys.executable} has no torch: {_FIRST} (other builders than pip: without build isolation)")


def version():
    """(major, minor)"""
    text = (folder() / "version.py").read_text()
    return tuple(map(int, re.search(r"__version__ = '(\d+)\.(\d+)", text).groups()))


def dynamic_metadata(settings, project):
    """Called by scikit-build-core."""
    major, minor = version()
    if not OLDEST <= (major, minor) <= NEWEST:
        raise SystemExit(f"memo: {folder()} is torch {major}.{minor}: {_FIRST}")
    return {"dependencies": [f"torch=={major}.{minor}.*"]}


if __name__ == "__main__":
    print(folder())
