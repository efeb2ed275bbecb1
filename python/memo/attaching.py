"""attach and detach: a model whose decoder layers run by a plan."""

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from memo import _core
from memo.attachment import Attachment, attachment_of
from memo.own_model import OwnModel
from memo.planning import Planning
from memo.transformers_model import TransformersModel


def attach(model: torch.nn.Module, context: int, block: int | str = "auto", device_limit: int | str | None = None,
           host_limit: int | str | None = None, disk: str | Path | None = None, disk_limit: int | str | None = None,
           strategy: str = "memo", head_groups: int = 1, attention: str = "auto",
           sequence_group: "torch.distributed.ProcessGroup | None" = None,
           layers: torch.nn.ModuleList | torch.nn.ModuleDict | str | None = None,
           example: Callable[[int], tuple | torch.Tensor] | None = None, check: bool = True,
           plan: _core.Plan | str | Path | None = None) -> Attachment:
    """Makes `model` train by token blocks, by a plan; returns its `Attachment`.

    context: number of tokens to plan for, of one sequence or of all rows of a batch together; other lengths get plans of
    their own. block: tokens per block; "auto": 1024 on a CPU, on a GPU the best by time of 1024 to 8192, less for short contexts
    and where nothing fits. device_limit: bytes, or "2GiB", for weights, gradients, AdamW's moments and
    everything else of a step; None: no limit, or on a GPU what it has free, less a reserve, which a warning says. host_limit,
    or disk (a folder) with disk_limit: the tier for swapped tensors. strategy: "memo", "resident", "recompute" or
    "offload". attention: the kernel of attention by name ("cpu"; on a GPU "flash2", or "cudnn" for sequences of one document);
    "auto": the fastest that applies, or with a sequence_group the device's first. sequence_group: a
    torch.distributed group over whose ranks the sequence is split (`split_sequence`); `context` and limits are then
    those of a rank. layers, example: for a model that is not of transformers, see memo.own_model. check: compares a layer of each
    kind with the model's own. plan: a Plan, or the path of one that `Plan.save` wrote, to use for sequences of `context` instead
    of a new one.

    Raises UnsupportedModel where the model cannot run so, ValueError where nothing fits; the model is then unchanged.
    """
    if attachment_of(model) is not None:
        raise ValueError("memo: the model is attached already: memo.detach(model) first")
    kind = TransformersModel(model) if layers is None else OwnModel(model, layers, example)
    if isinstance(plan, (str, Path)):
        plan = _core.Plan.load(str(plan))
    if plan is not None and block == "auto":
        block = plan.describe()["block"]
    planning = Planning(kind, context, block, _bytes_of(device_limit, "device_limit"),
                        _bytes_of(host_limit, "host_limit"), disk, _bytes_of(disk_limit, "disk_limit"), strategy,
                        head_groups, sequence_group, check, attention)
    made = Attachment(planning, plan)
    made.patch()
    return made


def _bytes_of(size, option):
    """Bytes of a size as in job.toml; 0 for None."""
    if size is None:
        return 0
    try:
        return _core.parse_bytes(str(size))
    except ValueError as error:
        raise ValueError(f"{option}: {error}") from None


def detach(model: torch.nn.Module) -> None:
    """Gives the model back as it was before `attach`."""
    attachment(model).unpatch()


@contextlib.contextmanager
def attached(model: torch.nn.Module, context: int, **options) -> Iterator[Attachment]:
    """`attach` for the duration of a with statement."""
    made = attach(model, context, **options)
    try:
        yield made
    finally:
        made.unpatch()


def attachment(model: torch.nn.Module) -> Attachment:
    """The Attachment of an attached model, of its wrapper, or of the model inside of it."""
    made = attachment_of(model)
    if made is None:
        raise ValueError("the model is not attached")
    return made


def report(model: torch.nn.Module, page: str | Path) -> None:
    """Writes a page about the model's last plan, to be opened in a browser."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "plan.json"
        attachment(model).plan.save(str(path))
        _core.report(str(path), str(page))
