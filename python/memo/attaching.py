"""attach and detach: a model whose decoder layers run by a plan."""

import contextlib
import tempfile
from pathlib import Path

from memo import _core
from memo.own_model import OwnModel
from memo.running import ATTRIBUTE, Attachment
from memo.transformers_model import TransformersModel
from memo.units import parse_bytes


def attach(model, context, block="auto", device_limit=None, host_limit=None, disk=None, disk_limit=None,
           strategy="memo", head_groups=1, sequence_group=None, layers=None, example=None, check=True):
    """Makes `model` train by token blocks, as a plan says; returns its `Attachment`.

    context: tokens of a sequence (of all rows of a batch together) to plan for; other lengths get plans of their own.
    block: tokens per block. device_limit: bytes, or "2GiB", for weights, gradients, AdamW's moments and everything
    else of a step; None: no limit. host_limit, or disk (a folder) with disk_limit: where tensors may leave to.
    strategy: "memo", "resident", "recompute" or "offload". sequence_group: a torch.distributed group over whose ranks the
    sequence is split (memo.split_sequence); `context` and limits are then a rank's. layers, example: of a model that is not of transformers, see
    memo.own_model. check: compares a layer of each kind with the model's own.

    Raises UnsupportedModel where the model cannot be run so, ValueError where nothing fits. The model is left as it was.
    """
    if getattr(model, ATTRIBUTE, None) is not None:
        raise ValueError("the model is attached already: memo.detach(model) first")
    kind = TransformersModel(model) if layers is None else OwnModel(model, layers, example)
    made = Attachment(kind, context, block, parse_bytes(device_limit, "device_limit"),
                      parse_bytes(host_limit, "host_limit"), disk, parse_bytes(disk_limit, "disk_limit"), strategy,
                      head_groups, sequence_group)
    if check:
        made.check()
    made.patch()
    return made


def detach(model):
    """Gives the model back as it was before `attach`."""
    attachment(model).unpatch()


@contextlib.contextmanager
def attached(model, context, **options):
    """`attach` for the length of a with statement."""
    made = attach(model, context, **options)
    try:
        yield made
    finally:
        made.unpatch()


def attachment(model) -> "Attachment":
    """The Attachment of an attached model."""
    made = getattr(model, ATTRIBUTE, None)
    if made is None:
        raise ValueError("the model is not attached")
    return made


def report(model, page):
    """Writes a page about the model's last plan, to be opened in a browser."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "plan.json"
        attachment(model).plan.save(str(path))
        _core.report(str(path), str(page))
