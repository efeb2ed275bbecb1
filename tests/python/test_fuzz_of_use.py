"""Sequences of what users do, attached and plain: every number the same, or refused by name. scripts/fuzz_use runs others."""

import pytest
from fuzz import running
from fuzz.drawing import draw

pytest.importorskip("peft")
pytest.importorskip("accelerate")


@pytest.mark.parametrize("seed", range(20))
def test_what_users_do_gives_what_the_plain_model_gives(seed):
    sequence = draw(seed)
    verdict = running.run(sequence)
    assert not verdict.bad, f"{verdict.kind} at {verdict.text}\n\nfrom fuzz import Pair\n{sequence.script()}"
