"""Runs sequences in processes of their own, so that a signal is a result like others, and makes them shorter."""

import contextlib
import dataclasses
import multiprocessing
import os
import signal
import sys
from multiprocessing import forkserver
from pathlib import Path

from fuzz.drawing import Sequence

SECONDS = 120  # until a sequence counts as one that hangs
_ROOT = Path(__file__).parents[3]


@dataclasses.dataclass
class Verdict:
    """kind: "ok", "refused", "different", "signal" or "hang". text: what happened, and at which call."""

    kind: str
    text: str = ""
    refusals: list = dataclasses.field(default_factory=list)

    @property
    def bad(self):
        return self.kind not in ("ok", "refused")


def _work(sequence, results):
    """In the child."""
    import torch
    import transformers as hf
    from fuzz import Difference, Pair

    sys.stdout = sys.stderr = open(os.devnull, "w")
    hf.logging.set_verbosity_error()
    torch.set_num_threads(1)
    pair = Pair(**sequence.pair)
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
    at, verdict = None, None
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
    if verdict.bad and at is not None:
        name, given = sequence.calls[at]
        verdict.text = f"call {at + 1}, {name}: {verdict.text}"
    return verdict


def shorter(sequence, verdict, find=run):
    """The shortest sequence found, by leaving out calls and arguments, whose verdict is of the same kind, at the same
    action."""
    same = lambda found: found.kind == verdict.kind and _action(found) == _action(verdict)
    found_one = True
    while found_one:
        found_one = False
        for smaller in _smaller(sequence):
            if same(other := find(smaller)):
                sequence, verdict, found_one = smaller, other, True
                break
    return sequence, verdict


def _action(verdict):
    return verdict.text.split(":")[0].split(", ")[-1]


def _smaller(sequence):
    for i in reversed(range(len(sequence.calls))):
        yield Sequence(sequence.pair, sequence.calls[:i] + sequence.calls[i + 1:])
    for i, (name, given) in enumerate(sequence.calls):
        for key in given:
            if key not in ("tokens", "context", "block", "which", "how", "module", "factor", "what", "where", "layer", "kind",
                           "lengths", "new", "dtype", "vocabulary", "p", "own", "on"):
                rest = {other: value for other, value in given.items() if other != key}
                yield Sequence(sequence.pair, [*sequence.calls[:i], (name, rest), *sequence.calls[i + 1:]])
    for key in ("dropout",):
        if key in sequence.pair:
            yield Sequence({other: value for other, value in sequence.pair.items() if other != key}, sequence.calls)
    if sequence.pair["family"] != "llama":
        yield Sequence(sequence.pair | {"family": "llama"}, sequence.calls)
