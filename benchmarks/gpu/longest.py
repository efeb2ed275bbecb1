"""The longest contexts of 0.6B and 1.7B whose step is predicted to take at most 6 minutes, by the plan; then trained for one
step."""

MOST_SECONDS = 360


def longest(call, runs):
    for shape in ["0.6B", "1.7B"]:
        best = None

        def fits(context):
            nonlocal best
            plan = call.row("longest", f"{shape} {context} plan", lambda: runs.plan(shape, context), 300)
            good = "error" not in plan and plan["step_seconds_predicted"] <= MOST_SECONDS
            if good:
                best = plan
            return good

        context = runs.size(256, 131072)
        while fits(context) and context < runs.size(1024, 8 << 20):
            context *= 2
        # Between the last that fits and twice as much, by quarters.
        for quarters in (2, 3, 1):
            if best and best["context"] < context and fits(context // 2 * (4 + quarters) // 4) and quarters != 2:
                break
        if best is None:
            continue
        context = best["context"]
        limit = 120 + 1.5 * best["step_seconds_predicted"]

        def train():
            return runs.train(shape, context, steps=1, planned=True)

        call.row("longest", f"{shape} {context} trained", train, max(60, min(limit, 520)))
