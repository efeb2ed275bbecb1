"""TRL's trainers have a loss of their own, in tiles of 4096 tokens by the vocabulary, some of them at a time: most of a step's
memory. While a model is attached the tiles are those of memo.tiled_loss; values do not depend on them but for rounding."""

import sys
import weakref

from memo.tiled_loss import TILE

_MODULES = ("trl.kernels.chunked_logprob", "trl.kernels.chunked_divergence")
# The size of tiles is a global of TRL's modules, so who wants it small is one of this module.
_own_sizes = {}
_holders = set()


def _release(holder):
    _holders.discard(holder)
    while _own_sizes and not _holders:
        module, tokens = _own_sizes.popitem()
        module.TOKEN_CHUNK_SIZE = tokens


class TrlTiles:
    """One attached model's wish for small tiles; TRL's own come back when the last that has it restores them or is gone."""

    def __init__(self):
        weakref.finalize(self, _release, id(self))

    def shrink(self):
        """Of the modules that are loaded by now."""
        _holders.add(id(self))
        for name in _MODULES:
            module = sys.modules.get(name)
            if module is not None and getattr(module, "TOKEN_CHUNK_SIZE", 0) > TILE:
                _own_sizes[module] = module.TOKEN_CHUNK_SIZE
                module.TOKEN_CHUNK_SIZE = TILE

    def restore(self):
        _release(id(self))
