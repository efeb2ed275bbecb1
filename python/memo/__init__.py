"""Memo trains language models on contexts that do not fit in memory: the plug-in for models of other frameworks.

    import memo
    memo.attach(model, context=16384, device_limit="2GiB", disk="/var/tmp")

The model then runs its own decoder layers by token blocks, forward and backward. A plan decides for every tensor that backward
needs whether it stays in memory, is swapped to the disk or is computed again. See `attach`.
"""

import torch

try:
    from memo._core import Plan
    from memo._core import version as __version__
except ImportError as error:
    raise ImportError(f"{error} (memo is built for one minor version of torch, and this is {torch.__version__}: after a "
                      "change of torch, install memo again)") from error
from memo.attaching import attach, attached, attachment, detach, report
from memo.attachment import Attachment
from memo.block_greenlet import attention
from memo.errors import UnsupportedModel
from memo.ranks import split_sequence

__all__ = ["Attachment", "Plan", "UnsupportedModel", "__version__", "attach", "attached", "attachment", "attention", "detach",
           "report", "split_sequence"]
