"""Departures from the plan, bits and tolerance: the same run by every strategy, twice by one, with lengths that are no
multiple of anything, with documents apart and with batches, and the same short run on the CPU."""


def bits(call, runs):
    shape, context = "0.6B", runs.size(512, 16384)

    def run(strategy):
        profile = runs.profile(shape, context)
        return profile if "error" in profile else runs.train(
            shape, context, strategy, steps=2, digest=True, check="first", profile=profile["profile"])

    strategies = ["resident", "resident again", "recompute", "offload", "memo", "memo-alpha"]
    made = [call.row("bits", name, lambda: run(name.split()[0]), 180) for name in strategies]
    many = runs.size(500, 6000)
    odd = {
        "odd length": dict(context=runs.size(509, 5003)),
        "documents apart": dict(context=many, data={"documents": "apart", "files": runs.documents(many + 1, 7)}),
        "two sequences a step": dict(context=runs.size(257, 3001), train={"batch": 2}),
    }
    for name, job in odd.items():
        made.append(call.row("bits", name, lambda: runs.train(shape, steps=2, check="first", strategy="offload", **job), 120))
    short = runs.size(320, 1024)
    on_cpu = {"device": "cpu", "device_limit": None, "host_limit": None}
    cpu = call.row("bits", "on the CPU", lambda: runs.train(shape, short, "resident", steps=2, memory=on_cpu), 240)
    gpu = call.row("bits", "as on the CPU", lambda: runs.train(shape, short, "resident", steps=2), 120)

    def verdict():
        ran = [row for row in made[: len(strategies)] if "loss_digest" in row]
        row = {"runs": len(ran), "departures": sum(row.get("departures", 0) for row in made)}
        for digest in ("loss_digest", "grad_digest"):
            row["same_" + digest] = len({row[digest] for row in ran}) == 1
        if ran:
            row["losses_apart"] = apart(row["loss_last"] for row in ran)
        if "loss_last" in cpu and "loss_last" in gpu:
            row["losses_apart_from_cpu"] = apart([cpu["loss_last"], gpu["loss_last"]])
        return row

    call.row("bits", "all", verdict, again=lambda row: True)


def apart(losses):
    """Relative."""
    losses = list(losses)
    return (max(losses) - min(losses)) / abs(min(losses))
