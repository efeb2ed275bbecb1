"""Sequences of what users do with a model, attached and plain: `Pair` does one action after the other to both, and compares."""

from fuzz.pair import Difference, Pair

__all__ = ["Difference", "Pair"]
