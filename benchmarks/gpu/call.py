"""One call of `make gpu`: rows that are written as they come and are not measured again, and limits on time.

A part asks for its rows by name, in order: `call.row("bits", "resident", make, limit)`. A row that an earlier call wrote
comes from its file, RESULTS/<part>.jsonl; else `make()` returns it, and it is on the disk before the next one is begun. So a
killed call loses at most the row at work, and the next goes on there. A row with an `error` is measured again once the
sources have changed.
"""

import ctypes
import json
import os
import signal
import subprocess
import sys
import time

INFEASIBLE = 3  # exit code of memo


class CallIsOver(Exception):
    """The call has no time left for the next row."""


class TookTooLong(Exception):
    pass


def end_with_parent():
    """In a new process: the kernel ends it when this one ends, however that is."""
    PR_SET_PDEATHSIG = 1
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def last_words(text):
    """The line that says what went wrong: the last one, and of LibTorch the one before its frames."""
    lines = [line for line in text.strip().splitlines() if line.strip() and not line.startswith(("frame #", "  "))]
    return lines[-1][:300] if lines else "no word of it"


def read_rows(file):
    """The whole rows of a part's file; a torn last one is left out."""
    rows = []
    for line in file.read_text().splitlines() if file.exists() else []:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


class Call:
    def __init__(self, results, device, sources, minutes, most=600, environment=None):
        """`sources`: a digest of what was built. `minutes`: of the call in all. `most`: seconds that any row may take."""
        self.results, self.device, self.sources, self.most = results, device, sources, most
        self.start = time.monotonic()
        self.end = self.start + 60 * minutes
        self.environment = os.environ | (environment or {})
        self.fresh = 0  # number of rows that this call has measured
        self.unit_end = self.end
        self.rows = {}  # of each part, by name
        results.mkdir(parents=True, exist_ok=True)
        others = {row["device"] for file in results.glob("*.jsonl") for row in read_rows(file)} - {device}
        if others:
            raise SystemExit(f"{results} holds rows of {others.pop()}, this is {device}: name another folder (RESULTS=...)")
        ids = [row["call"] for file in results.glob("*.jsonl") for row in read_rows(file)]
        self.number = max(ids, default=0) + 1

    def left(self):
        return self.end - time.monotonic()

    def rows_of(self, part):
        if part not in self.rows:
            file = self.results / f"{part}.jsonl"
            rows = read_rows(file)
            # Without a torn row, which would spoil the next.
            if file.exists():
                whole = file.with_suffix(".whole")
                whole.write_text("".join(json.dumps(row) + "\n" for row in rows))
                whole.replace(file)
            self.rows[part] = {row["row"]: row for row in rows}
        return self.rows[part]

    def row(self, part, name, make, limit=120, again=lambda row: False):
        """`limit`: seconds that making it may take. A row needs so much time left, or a call that has measured nothing yet."""
        rows = self.rows_of(part)
        old = rows.get(name)
        if old and not again(old) and ("error" not in old or old["sources"] == self.sources):
            return old
        limit = min(limit, self.most)
        if self.left() < (limit if self.fresh else 10):
            raise CallIsOver(f"{part}, {name}: it may take {limit:.0f} s, the call has {max(0, self.left()):.0f} s left")
        begin = time.monotonic()
        self.unit_end = min(self.end, begin + limit)
        print(f"[{begin - self.start:5.0f} s] {part}: {name}", file=sys.stderr, flush=True)
        self.fresh += 1
        try:
            values = make()
        except TookTooLong as late:
            values = {"error": str(late)}
        except Exception as fault:  # of a part's own code: the rows after it may be right
            values = {"error": f"{type(fault).__name__}: {fault}"[:300]}
        took = time.monotonic() - begin
        row = {"row": name, "device": self.device, "call": self.number, "sources": self.sources, "took": round(took, 2)} | values
        with (self.results / f"{part}.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")
            file.flush()
            os.fsync(file.fileno())
        rows[name] = row
        if "error" in row:
            print(f"          {row['error']}", file=sys.stderr, flush=True)
        return row

    def run(self, command, environment=None):
        """(exit code, standard output, standard error) of a command, which ends with the row's time, and with this process."""
        command = list(map(str, command))
        limit = max(1, self.unit_end - time.monotonic())
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace", start_new_session=True,
            preexec_fn=end_with_parent, env=self.environment | (environment or {})
        )
        try:
            out, err = process.communicate(timeout=limit)
        except BaseException as problem:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            if isinstance(problem, subprocess.TimeoutExpired):
                raise TookTooLong(f"ended after {limit:.0f} s: {' '.join(command)[:120]}") from None
            raise
        return process.returncode, out, err

    def json_of(self, command, environment=None):
        """The object on the last line that a command prints; `error` if it failed."""
        code, out, err = self.run(command, environment)
        if code == INFEASIBLE:
            return {"error": "does not fit: " + last_words(err)}
        if code != 0:
            return {"error": f"exit code {code}: {last_words(err)}"}
        lines = out.strip().splitlines()
        return json.loads(lines[-1]) if lines and lines[-1].startswith("{") else {}
