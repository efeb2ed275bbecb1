"""Memo and its peers, in one call: Transformers with gradient checkpointing, with its offload, and TRL's SFTTrainer with its
settings for long contexts. The same weights and tokens; contexts double until every peer has failed."""

import importlib.util
import json
import sys

from memo_runs import ROOT

PEERS = {
    "Transformers": ["benchmarks/transformers_peer.py", "--checkpointing"],
    "Transformers, offload": ["benchmarks/transformers_peer.py", "--checkpointing", "--offload"],
    "TRL": ["benchmarks/gpu/trl_peer.py"],
}
NEEDS = {"Transformers": ["transformers"], "Transformers, offload": ["transformers"], "TRL": ["trl", "datasets", "accelerate"]}


def peers(call, runs):
    for shape in ["0.6B", "1.7B"]:
        failed, context = {}, runs.size(256, 16384)
        while len(failed) < len(PEERS) and context <= runs.size(512, 2 << 20):
            model_and_peers(call, runs, shape, context, failed)
            context *= 2


def model_and_peers(call, runs, shape, context, failed):
    """The rows of one context. `failed`: peers that are no longer tried, which this adds to."""
    folder = runs.work / f"model-{shape}"

    def model():
        if not folder.exists():
            made = call.json_of([sys.executable, ROOT / "benchmarks/gpu/models.py", json.dumps(runs.shapes[shape]), folder])
            if "error" in made:
                raise RuntimeError(f"no model folder: {made['error']}")
        return folder

    def memo():
        return runs.train(shape, context, folder=model())

    # Memo's row is of the call of the peers' rows beside it.
    beside = lambda: call.row("peers", f"{shape} {context} Memo", memo, 300, again=lambda row: row["call"] != call.number)
    for peer, (script, *options) in PEERS.items():
        if peer in failed:
            continue

        def train():
            missing = [name for name in NEEDS[peer] if importlib.util.find_spec(name) is None]
            if missing:
                return {"shape": shape, "context": context, "strategy": peer, "error": f"not installed: {', '.join(missing)}"}
            command = [sys.executable, ROOT / script, model(), runs.tokens(context + 1), "--steps", 3,
                       "--dtype", "bfloat16", "--device", runs.options.peer_device, *options]
            found = call.json_of(command, {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"})
            row = {"shape": shape, "context": context, "strategy": peer}
            if "error" in found:
                return row | found
            row |= {"step_seconds": found["step_seconds"][-1], "loss_first": found["losses"][0],
                    "device_peak_bytes": found.get("device_peak_bytes"), "settings": found.get("settings")}
            if "step_seconds" in ours:
                row["memo_to_peer"] = ours["step_seconds"] / row["step_seconds"]
                row["loss_apart"] = abs(ours["loss_first"] / row["loss_first"] - 1)
            return row

        name = f"{shape} {context} {peer}"
        known = call.rows_of("peers").get(name)
        if known is None or ("error" in known and known["sources"] != call.sources):
            ours = beside()
        row = call.row("peers", name, train, 300)
        if "error" in row:
            failed[peer] = row["error"]
