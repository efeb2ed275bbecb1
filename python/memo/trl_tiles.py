"""TRL's trainers have a loss of their own, in tiles of 4096 tokens by the vocabulary, some of them at a time: most of a step's
memory. While a model is attached the tiles are those of memo.tiled_loss; values do not depend on them but for rounding."""

import sys

from memo.tiled_loss import TILE

_MODULES = ("trl.kernels.chunked_logprob", "trl.kernels.chunked_divergence")


class TrlTiles:
    def __init__(self):
        self._before = {}

    def shrink(self):
        """Of the modules that are loaded by now."""
        for name in _MODULES:
            module = sys.modules.get(name)
            if module is not None and getattr(module, "TOKEN_CHUNK_SIZE", 0) > TILE:
                self._before[module] = module.TOKEN_CHUNK_SIZE
                module.TOKEN_CHUNK_SIZE = TILE

    def restore(self):
        while self._before:
            module, tokens = self._before.popitem()
            module.TOKEN_CHUNK_SIZE = tokens
