"""Makes the tiles of TRL's own loss small while a model is attached. They have 4096 tokens by the vocabulary, and several at a
time are most of a step's memory. With the size of memo.tiled_loss, values differ only by rounding."""

import sys
import weakref

from memo.tiled_loss import TILE

_MODULES = ("trl.kernels.chunked_logprob", "trl.kernels.chunked_divergence")
# The size of tiles is a global of TRL's modules, so the set of models that want small tiles is a global of this module.
_own_sizes = {}
_holders = set()


def _release(holder):
    _holders.discard(holder)
    while _own_sizes and not _holders:
        module, tokens = _own_sizes.popitem()
        module.TOKEN_CHUNK_SIZE = tokens


class TrlTiles:
    """One attached model's request for small tiles. TRL's own size returns when the last request is withdrawn or gone."""

    def __init__(self):
        weakref.finalize(self, _release, id(self))

    def shrink(self):
        """Makes tiles small in the modules that are loaded by now."""
        _holders.add(id(self))
        for name in _MODULES:
            module = sys.modules.get(name)
            if module is not None and getattr(module, "TOKEN_CHUNK_SIZE", 0) > TILE:
                _own_sizes[module] = module.TOKEN_CHUNK_SIZE
                module.TOKEN_CHUNK_SIZE = TILE

    def restore(self):
        _release(id(self))
