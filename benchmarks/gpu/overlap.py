"""How well copies hide: Memo under a limit at which half of what `resident` keeps must move, against `resident`, and then one
step of an 8B at 64K, which has no `resident` beside it."""


def overlap(call, runs):
    context = runs.size(512, 32768)
    for shape in ["0.6B", "1.7B"]:
        profile = lambda: runs.profile(shape, context)

        def resident():
            found = profile()
            return found if "error" in found else runs.train(shape, context, "resident", profile=found["profile"])

        whole = call.row("overlap", f"{shape} resident", resident, 180)
        if "error" in whole:
            continue

        def limited():
            found = profile()
            if "error" in found:
                return found
            least = runs.plan(shape, context, "offload")
            if "error" in least:
                return least
            limit = (whole["device_peak_bytes"] + least["device_peak_bytes_predicted"]) // 2
            row = runs.train(shape, context, profile=found["profile"], memory={"device_limit": limit})
            if "step_seconds" in row:
                row["limit_bytes"] = limit
                row["to_resident"] = row["step_seconds"] / whole["step_seconds"]
                row["to_resident_predicted"] = row["step_seconds_predicted"] / whole["step_seconds_predicted"]
            return row

        call.row("overlap", f"{shape} limited", limited, 300)


def eight_billion(call, runs):
    """Two steps, since the first one pays for fresh pages."""
    context = runs.size(512, 65536)
    call.row("8B", f"8B {context}", lambda: runs.train("8B", context, steps=2), 500)
