"""Sizes as people write them."""

import re

_FACTORS = {"": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40,
            "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


def parse_bytes(value, what: str) -> int:
    """Bytes of "512MiB", "1.5GB" or a number; 0 of None. ValueError names `what`."""
    if value is None:
        return 0
    if isinstance(value, int) and not isinstance(value, bool):
        if value >= 0:
            return value
    elif isinstance(value, str):
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]i?B|B|)\s*", value)
        if match:
            return int(float(match[1]) * _FACTORS[match[2]])
    raise ValueError(f'{what} = {value!r}: write a size such as "2GiB", or a number of bytes')


def format_bytes(count: int) -> str:
    for unit, factor in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count} B"
