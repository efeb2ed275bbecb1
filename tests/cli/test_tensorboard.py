"""`memo train --tensorboard`: TensorBoard's own reader finds what metrics.jsonl says."""

import json

import pytest
from conftest import memo
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def scalars_of(folder):
    events = EventAccumulator(str(folder))
    events.Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_each_step_is_there_with_its_figures_also_after_a_resume(folder, job):
    file = job(train=dict(steps=2))
    memo("train", file, "--out", folder / "run", "--tensorboard", folder / "logs" / "one", "--json").json()
    again = ["--set", "train.steps=3", "--resume", "--tensorboard", folder / "logs" / "one"]
    memo("train", file, "--out", folder / "run", "--json", *again).json()
    metrics = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    found = scalars_of(folder / "logs" / "one")
    assert set(found) == set(metrics[0]) - {"step"}
    for tag, points in found.items():
        assert [step for step, _ in points] == [1, 2, 3]
        assert [value for _, value in points] == pytest.approx([line[tag] for line in metrics], rel=1e-6)


def test_a_folder_that_cannot_be_made_is_said_before_the_first_step(folder, job):
    refused = memo("train", job(), "--out", folder / "run", "--tensorboard", folder / "book.txt" / "logs")
    assert "book.txt" in refused.refusal(5)
    assert not (folder / "run" / "metrics.jsonl").exists()
