"""Runs sequences in processes of their own, so that a signal is a result like others, and makes them shorter."""

import contextlib
import dataclasses
import inspect
import multiprocessing
import os
import re
import signal
import sys
from multiprocessing import forkserver
from pathlib import Path

from fuzz.drawing import Sequence
from fuzz.pair import ACTIONS

SECONDS = 120  # until a sequence counts as one that hangs
_ROOT = Path(__file__).parents[3]


@dataclasses.dataclass
class Verdict:
    """kind: "ok", "refused", "different", "signal" or "hang". text: what happened, in the call `at` of `action`."""

    kind: str
    text: str = ""
    refusals: list = dataclasses.field(default_factory=list)
    at: int = 0
    action: str = ""

    @property
    def bad(self):
        return self.kind not in ("ok", "refused")

    def about(self):
        """The same of what is probably the same fault."""
        return self.kind, self.action, re.split(r"[\d;(]", self.text)[0]

    def __str__(self):
        return f"{self.kind} at call {self.at + 1}, {self.action}: {self.text}" if self.bad else self.kind


def _work(sequence, results):
    """In the child."""
    import torch
    import transformers as hf
    from fuzz import Difference, Pair

    for stream in (sys.stdout, sys.stderr):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    hf.logging.set_verbosity_error()
    torch.set_num_threads(1)
    pair = Pair(**sequence.pair, exact=sequence.exact)
    for i, (name, given) in enumerate(sequence.calls):
        results.send(i)
        try:
            getattr(pair, name)(**given)
        except Difference as difference:
            results.send(Verdict("different", str(difference), pair.refusals))
            return
        except BaseException as error:  # of the pair's own
            results.send(Verdict("different", f"{type(error).__name__}: {error}", pair.refusals))
            return
    results.send(Verdict("refused" if pair.refusals else "ok", "", pair.refusals))


@contextlib.contextmanager
def _paths():
    """Of the package as built, and of these tests, for the server that children are forks of."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(_ROOT / "build" / "python"), str(_ROOT / "tests" / "python"), before or ""])
    try:
        yield
    finally:
        os.environ.pop("PYTHONPATH") if before is None else os.environ.update(PYTHONPATH=before)


def run(sequence: Sequence) -> Verdict:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["fuzz", "peft"])
    with _paths():
        forkserver.ensure_running()
    here, there = context.Pipe(duplex=False)
    child = context.Process(target=_work, args=(sequence, there))
    child.start()
    there.close()
    at, verdict = 0, None
    while verdict is None:
        try:
            if not here.poll(SECONDS):
                child.kill()
                verdict = Verdict("hang", f"no answer in {SECONDS} s")
            elif not isinstance(got := here.recv(), Verdict):
                at = got
            else:
                verdict = got
        except EOFError:
            child.join()
            code = child.exitcode
            verdict = Verdict("signal", signal.Signals(-code).name if code < 0 else f"exit code {code}")
    child.join()
    verdict.at, verdict.action = at, sequence.calls[at][0]
    return verdict


def shorter(sequence, verdict):
    """The sequence without calls and arguments that its verdict does not need, and the verdict."""
    same = lambda found: found.bad and found.about() == verdict.about()
    sequence = Sequence(sequence.pair, sequence.calls[:verdict.at + 1])
    for smaller in (_without_call, _without_argument):
        i = 0
        while (other := smaller(sequence, i)) is not None:
            if same(found := run(other)):
                sequence, verdict = other, found
            else:
                i += 1
    for pair in ({"dropout": 0.0}, {"family": "llama"}):
        other = Sequence({key: pair.get(key, value) for key, value in sequence.pair.items()}, sequence.calls)
        if other.pair != sequence.pair and same(found := run(other)):
            sequence, verdict = other, found
    return sequence, verdict


def _without_call(sequence, i):
    """Without the i-th from the end; the last one, which fails, stays."""
    at = len(sequence.calls) - 2 - i
    return Sequence(sequence.pair, sequence.calls[:at] + sequence.calls[at + 1:]) if at >= 0 else None


def _without_argument(sequence, i):
    """Without the i-th argument that has a default, of all calls."""
    optional = [(at, key) for at, (name, given) in enumerate(sequence.calls) for key in given
                if key != "context" and _has_default(ACTIONS[name], key)]
    if i >= len(optional):
        return None
    at, key = optional[i]
    name, given = sequence.calls[at]
    rest = {other: value for other, value in given.items() if other != key}
    return Sequence(sequence.pair, [*sequence.calls[:at], (name, rest), *sequence.calls[at + 1:]])


def _has_default(action, key):
    parameter = inspect.signature(action).parameters.get(key)
    return key != "tokens" if parameter is None else parameter.default is not parameter.empty
