"""attach refuses what it cannot do by name, and leaves the model as it was; plans can be looked at."""

import csv
import json
from pathlib import Path

import families
import pytest
import torch

import memo

OPTIONS = dict(context=256, block=128)


def table(name):
    return list(csv.DictReader((Path(__file__).parents[1] / "data" / name).read_text().splitlines()))


@pytest.mark.parametrize("options, message", [
    (dict(device_limit="1MiB"), "device_limit"),
    (dict(device_limit="plenty"), "device_limit: 'plenty' is not a size"),
    (dict(device_limit=-1), "device_limit: '-1' is not a size"),
    (dict(host_limit=1.5), "host_limit: '1.5' is not a size"),
    (dict(disk_limit=True), "disk_limit: 'True' is not a size"),
    (dict(context=0), "context = 0"),
    (dict(block=-3), "block = -3"),
    (dict(disk="/nonexistent"), "/nonexistent"),
    (dict(strategy="offload"), "needs a tier"),
    (dict(strategy="swap"), 'strategy = .swap.: one of'),
    (dict(head_groups=3), "head_groups = 3"),
])
def test_bad_options_are_one_line_and_change_nothing(options, message):
    model = families.make("llama")
    before = dict(model.__dict__)
    with pytest.raises(ValueError, match=message) as raised:
        memo.attach(model, **OPTIONS | options)
    assert "\n" not in str(raised.value)
    assert model.__dict__ == before and all("forward" not in m.__dict__ for m in model.modules())
    assert model.config._attn_implementation == "sdpa"


class Stop(Exception):
    pass


def planning_of(monkeypatch, **options):
    """The Planning that attach begins with."""
    def stop(planning):
        raise Stop(planning)

    monkeypatch.setattr(memo.planning.Planning, "look_again", stop)
    with pytest.raises(Stop) as raised:
        memo.attach(families.make("llama"), **options)
    return raised.value.args[0]


@pytest.mark.parametrize("row", table("sizes.csv"), ids=lambda row: row["size"])
def test_sizes_are_those_of_job_toml(row, monkeypatch):
    """tests/job/job_test.cpp reads the same table."""
    if row["bytes"] != "refused":
        assert planning_of(monkeypatch, **OPTIONS, device_limit=row["size"]).account.limit == int(row["bytes"])
        return
    with pytest.raises(ValueError, match="device_limit: .* is not a size"):
        memo.attach(families.make("llama"), **OPTIONS, device_limit=row["size"])


@pytest.mark.parametrize("row", table("auto_blocks.csv"), ids=lambda row: row["context"])
def test_blocks_of_auto_are_those_of_job_toml(row):
    """tests/model/device_sizes_test.cpp reads the same table."""
    assert memo._core.blocks(torch.device("cpu"), int(row["context"])) == [int(row["block"])]


def test_smaller_blocks_are_taken_where_nothing_else_fits(ids):
    limits = dict(context=1024, strategy="recompute")
    with memo.attached(families.make("llama"), block=128, **limits) as small:
        peak, outside = small.plan.describe()["device_peak"], small._planning.account.outside(1024)
    with memo.attached(families.make("llama"), **limits) as usual:
        assert usual.block == 256 and usual.plan.describe()["device_peak"] > peak
    with memo.attached(families.make("llama"), device_limit=outside + peak, **limits) as short:
        assert short.block == 128 and short.plan.describe()["block"] == 128
        loss, _ = families.step(short.model, input_ids=ids, labels=ids)
        assert short.departures == (0, []) and short.last
    assert loss == pytest.approx(families.step(families.make("llama"), input_ids=ids, labels=ids)[0], rel=1e-5)
    with pytest.raises(ValueError, match="smallest limit"):
        memo.attach(families.make("llama"), device_limit=outside + 4096, **limits)
    with pytest.raises(ValueError, match="smallest limit"):
        memo.attach(families.make("llama"), device_limit=outside + peak, block=256, **limits)


def test_among_several_blocks_the_best_by_time_is_taken(ids, monkeypatch):
    seen = []
    monkeypatch.setattr(memo.planning._core, "blocks", lambda place, context: [64, 128])
    monkeypatch.setattr(memo.planning._core, "best_block", lambda times: seen.append(times) or 64)
    model = families.make("llama")
    with memo.attached(model, context=384) as attachment:
        assert attachment.block == 64
        chosen = families.step(model, input_ids=ids, labels=ids)
    times, = seen
    assert list(times) == [64, 128] and all(seconds > 0 for seconds in times.values())
    with memo.attached(model, context=384, block=64):
        given = families.step(model, input_ids=ids, labels=ids)
    assert chosen[0] == given[0] and all(torch.equal(chosen[1][name], d) for name, d in given[1].items())


def test_a_plan_brings_its_block(tmp_path):
    with memo.attached(families.make("llama"), context=384, block=96) as attachment:
        attachment.plan.save(str(tmp_path / "plan.json"))
    with memo.attached(families.make("llama"), context=384, plan=tmp_path / "plan.json") as attachment:
        assert attachment.block == 96


def test_a_model_without_decoder_layers_is_refused():
    with pytest.raises(memo.UnsupportedModel, match="Sequential"):
        memo.attach(torch.nn.Sequential(torch.nn.Linear(2, 2)), **OPTIONS)


def wrong_layers(change, first=0):
    """A model whose layers, from this one on, do something of their own."""
    model = families.make("llama")
    kind = type(model.model.layers[0])
    for layer in model.model.layers[first:]:
        layer.__class__ = type("Wrong", (kind,), {"forward": change})
    return model


def in_place(self, hidden_states, **kwargs):
    attention, _ = self.self_attn(hidden_states=self.input_layernorm(hidden_states), **kwargs)
    gate = torch.sigmoid(attention)
    gate.mul_(2)
    return hidden_states + gate


def shared_graph(self, hidden_states, **kwargs):
    gate = torch.sigmoid(hidden_states)
    attention, _ = self.self_attn(hidden_states=self.input_layernorm(hidden_states), **kwargs)
    return hidden_states + attention + gate


def carried_over(self, hidden_states, **kwargs):
    normed = self.input_layernorm(hidden_states)
    attention, _ = self.self_attn(hidden_states=normed, **kwargs)
    return attention + self.mlp(normed)


def twice(self, hidden_states, **kwargs):
    attention, _ = self.self_attn(hidden_states=self.input_layernorm(hidden_states), **kwargs)
    attention, _ = self.self_attn(hidden_states=attention, **kwargs)
    return hidden_states + attention


@pytest.mark.parametrize(
    "change, message",
    [
        (in_place, "in place"),
        (shared_graph, "before attention"),
        (carried_over, "differs|before attention|allocate"),
        (twice, "attention twice"),
    ],
)
def test_a_layer_that_cannot_be_run_by_blocks_is_refused_by_name(change, message):
    for first in (0, 1):  # the layer that is profiled, and another kind of layer
        model = wrong_layers(change, first)
        with pytest.raises(memo.UnsupportedModel, match=message if first == 0 else None) as raised:
            memo.attach(model, **OPTIONS)
        assert f"model.layers.{first} (Wrong)" in str(raised.value)
    assert all("forward" not in m.__dict__ for m in model.modules())


def test_attaching_twice_and_detaching_twice_are_refused():
    model = families.make("llama")
    memo.attach(model, **OPTIONS)
    with pytest.raises(ValueError, match="attached already"):
        memo.attach(model, **OPTIONS)
    memo.detach(model)
    with pytest.raises(ValueError, match="not attached"):
        memo.detach(model)


def test_what_others_put_over_a_forward_stays_when_the_model_is_detached(ids):
    model = families.make("llama")
    plain = families.step(model, input_ids=ids, labels=ids)
    attachment = memo.attach(model, **OPTIONS)
    ours, calls = model.forward, []
    model.forward = lambda *args, **kwargs: calls.append(kwargs) or ours(*args, **kwargs)
    memo.detach(model)
    loss, gradients = families.step(model, input_ids=ids, labels=ids)
    assert len(calls) == 1 and attachment.last is None
    assert loss == plain[0] and all(torch.equal(g, plain[1][name]) for name, g in gradients.items())


def test_a_plan_can_be_saved_checked_loaded_and_reported(tmp_path, ids):
    model = families.make("llama")
    with memo.attached(model, **OPTIONS) as attachment:
        attachment.plan.save(str(tmp_path / "plan.json"))
        assert json.loads((tmp_path / "plan.json").read_text())["format"] == "memo-plan"
        loaded = memo.Plan.load(str(tmp_path / "plan.json"))
        assert loaded.check() == [] and loaded.describe() == attachment.plan.describe()
        memo.report(model, tmp_path / "page.html")
        assert "<html" in (tmp_path / "page.html").read_text()


def test_a_saved_plan_is_run_and_one_for_something_else_refused(tmp_path, ids):
    path = str(tmp_path / "plan.json")
    with memo.attached(families.make("llama"), strategy="recompute", **OPTIONS) as attachment:
        attachment.plan.save(path)
    model = families.make("llama")
    plain = families.step(model, input_ids=ids, labels=ids)
    with memo.attached(model, plan=path, strategy="resident", **OPTIONS) as attachment:
        assert attachment.plan.describe()["strategy"] == "recompute"
        assert max(families.differences(families.step(model, input_ids=ids, labels=ids), plain)) < 1e-5
    for options, message in [(dict(context=512), "for 256 tokens in blocks of 128, not for 512"),
                             (dict(device_limit="3MiB"), "plan: it takes .*, device_limit leaves")]:
        with pytest.raises(ValueError, match=message):
            memo.attach(model, **OPTIONS | options, plan=path)
    with pytest.raises(ValueError, match="the plan is for other layers"):
        memo.attach(families.make("gpt2"), plan=path, **OPTIONS)
