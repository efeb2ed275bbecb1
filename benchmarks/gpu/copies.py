"""Rates of copies between the GPU and pinned host memory: each direction alone, both together, and under a running product,
of which the time is measured too. By PyTorch alone, beside what Memo's profile says of its tier. As a script: python
copies.py BYTES."""

import json
import sys
import time
from pathlib import Path


def copies(call, runs):
    size = runs.size(1 << 20, 1 << 30)
    command = [sys.executable, *runs.options.python_first, Path(__file__).resolve(), size]
    call.row("copies", "PyTorch", lambda: call.json_of(command), 120)

    def profile():
        found = runs.profile("0.6B", runs.size(512, 8192))
        if "error" in found:
            return found
        tier = json.loads(found["profile"].read_text())["tiers"][0]
        return {
            "out_alone_bytes_per_second": tier["write_bytes_per_second"],
            "in_alone_bytes_per_second": tier["read_bytes_per_second"],
            "out_together_bytes_per_second": tier["write_with_read_bytes_per_second"],
            "in_together_bytes_per_second": tier["read_with_write_bytes_per_second"],
            "compute_slowdown": tier["compute_slowdown"],
        }

    call.row("copies", "Memo's profile", profile, 180)


def measure(size):
    """Bytes a second, and how much longer a product takes beside copies of both directions."""
    import torch

    begin, pinned = time.perf_counter(), True
    try:
        out, into = (torch.empty(size, dtype=torch.uint8, pin_memory=True) for _ in range(2))
    except RuntimeError:  # the emulated device has none
        pinned = False
        out, into = (torch.empty(size, dtype=torch.uint8) for _ in range(2))
    pinning = time.perf_counter() - begin
    source, target = (torch.zeros(size, dtype=torch.uint8, device="cuda") for _ in range(2))
    leaving, coming = torch.cuda.Stream(), torch.cuda.Stream()
    n = 8192 if size > 1 << 24 else 64
    a, b = (torch.randn(n, n, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    rounds = 8

    def seconds(outs, ins, products):
        """Each stream's own time for its copies, and the products' time."""
        torch.cuda.synchronize()
        ended, start = {}, time.perf_counter()
        for _ in range(rounds):
            if outs:
                with torch.cuda.stream(leaving):
                    out.copy_(source, non_blocking=True)
            if ins:
                with torch.cuda.stream(coming):
                    target.copy_(into, non_blocking=True)
        for _ in range(products):
            torch.mm(a, b)
        waits = {"products": torch.cuda.current_stream(), "out": leaving, "in": coming}
        while waits:  # in the order in which they end
            for name in [name for name, stream in waits.items() if stream.query()]:
                ended[name] = time.perf_counter() - start
                del waits[name]
        return ended

    seconds(True, True, 1)
    rate = lambda took: rounds * size / took
    both = seconds(True, True, 0)
    products = 8
    alone = seconds(False, False, products)["products"]
    # As many products as the copies of both directions take.
    products = max(8, int(products * max(both["out"], both["in"]) / alone))
    alone = seconds(False, False, products)["products"]
    under = seconds(True, True, products)
    return {
        "out_alone_bytes_per_second": rate(seconds(True, False, 0)["out"]),
        "in_alone_bytes_per_second": rate(seconds(False, True, 0)["in"]),
        "out_together_bytes_per_second": rate(both["out"]),
        "in_together_bytes_per_second": rate(both["in"]),
        "out_under_products_bytes_per_second": rate(under["out"]),
        "in_under_products_bytes_per_second": rate(under["in"]),
        "compute_slowdown": under["products"] / alone,
        "pinned": pinned,
        "pinning_bytes_per_second": 2 * size / pinning,
    }


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]))))
