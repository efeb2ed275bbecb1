"""Types of the module with planner and executor (memo/python/module.cpp). BadInput: bad input; Infeasible: nothing fits; Failed:
a step failed."""

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

version: str

def strategies() -> list[str]:
    """Names of the planner's strategies."""

def parse_bytes(text: str) -> int:
    """Bytes of a size such as "512MiB", as in job.toml."""

def format_bytes(bytes: int) -> str:
    """A size in words, such as "1.50 GiB"."""

def blocks(place: torch.device, context: int) -> list[int]:
    """Tokens per block with block = "auto": one, or several of which the best is to be measured; the smallest first."""

def best_block(seconds_per_token: dict[int, float]) -> int:
    """The block to take, by the times of a token in blocks of several sizes: the smallest that is about as fast as any."""

def open_device(place: torch.device) -> None:
    """Raises ValueError or RuntimeError if layers cannot run on this device."""

def room(place: torch.device) -> int:
    """Bytes that a plan may take on the device now, less a reserve; 0: as many as it wants."""

def attention_refusal(place: torch.device, dtype: torch.dtype, softcap: float, head_dim: int) -> str:
    """Why the device has no attention for this; empty: it has."""

def one_document_matters(place: torch.device, kernel: str, context: int) -> bool:
    """Whether a plan for this context, with this kernel of attention or "auto", may be of one that has no documents."""

def report(plan: str, page: str) -> None:
    """Writes the report's page about the plan in a file."""

class _Calls(Protocol):
    """The parts of a layer before and after attention, for blocks of T tokens."""

    def before(self, layer: int, block: int, x: Tensor) -> tuple[Tensor, Tensor, Tensor, float, Mask]:
        """(T, hidden) -> q (heads, T, head_dim), k and v (kv_heads, T, head_dim), soft cap of the scores (0: none), and the mask
        of the whole sequence."""
    def after(self, layer: int, block: int, o: Tensor) -> tuple[Tensor, list[Tensor]]:
        """(T, heads, head_dim) -> (T, hidden), and the layer's extra outputs, (T, any)."""
    def begin_exchange(self, out: Tensor, given: Tensor) -> None:
        """Begins an all-to-all of the ranks that share a sequence: (ranks, ...)."""
    def end_exchange(self) -> None:
        """Waits for the oldest exchange that was begun."""
    ranks: int
    def forget(self) -> None:
        """Ends blocks that wait between before and after."""

class BadInput(ValueError): ...
class Infeasible(BadInput): ...
class Failed(RuntimeError): ...

class Plan:
    def describe(self) -> dict[str, Any]:
        """strategy; the kernel of attention; context and block in tokens; device_peak, device_lower_bound, bytes_out
        and bytes_in in bytes; step_seconds and stall_seconds."""
    def save(self, path: str) -> None: ...
    @staticmethod
    def load(path: str) -> Plan: ...
    def check(self) -> list[str]:
        """The validator's failures; empty if the plan is valid."""

class Profile:
    @property
    def attention(self) -> str:
        """The kernel of core attention."""

def make_plan(profile: Profile, strategy: str, device_limit: int) -> Plan:
    """The plan of a strategy. device_limit in bytes, 0: none."""

class LayerOptions:
    """Layers: their shape, the kind of each (kinds, from 0), and for each kind whether the allocations after attention depend on
    values (data_dependent). forward_layers: number of first layers without a backward side. Limits in bytes, 0: none."""

    def __init__(
        self, *, model: str, hidden_size: int, heads: int, kv_heads: int, head_dim: int, groups: int, block: int,
        host_limit: int, disk: str | None, disk_limit: int, windows: Sequence[int], kernel: str, dtype: torch.dtype,
        attention: torch.dtype, kinds: Sequence[int], data_dependent: Sequence[bool], forward_layers: int,
    ) -> None: ...

def trace_layer(
    options: LayerOptions, hidden: Tensor, parameters: Sequence[Tensor], calls: _Calls
) -> tuple[str, str, bool]:
    """Traces layer 0 of the calls for a block (tokens, hidden): texts about its allocations before and after attention, and
    whether it draws random numbers."""

class SessionMemory:
    """The memory that a model's sessions use in turn: the largest so far."""

    def __init__(self) -> None: ...
    def free(self) -> None:
        """Keeps nothing any more."""

class Profiler:
    """Measures a layer of each kind: layer k of the calls is of kind k, as are hidden[k] and parameters[k]."""

    def __init__(
        self, options: LayerOptions, hidden: Sequence[Tensor], parameters: Sequence[Sequence[Tensor]], calls: _Calls
    ) -> None: ...
    @property
    def seconds_per_token(self) -> float:
        """The time of a token in the parts before and after attention, forward and backward."""
    def profile(self, context: int, kernel: str, documents: bool) -> Profile:
        """The profile for a context of whole blocks."""
    def try_layer(
        self, kind: int, calls: _Calls, hidden: Tensor, d_output: Tensor | None, parameters: Sequence[Tensor]
    ) -> tuple[Tensor] | tuple[Tensor, Tensor, list[Tensor | None]]:
        """Runs layer 0 of the calls, which is of this kind: its output, and (with d_output) the gradients of its input and of the
        parameters."""
    def open(self, plan: Plan, calls: _Calls, memory: SessionMemory, most: int, watch: bool) -> Session:
        """A session of the plan in `memory`, of which at most `most` bytes on the device (0: any). watch: whether check mode
        watches the first step."""

class Mask:
    """Which keys each query sees: those of its own document up to itself, at most the last `window` of them (0: all), and no
    hidden ones. document_starts: first tokens of documents, ascending from 0; empty: one document. hidden: true for keys that
    no query sees. row: the output of a query that sees no key is 0 (row 0), or the mean of the values in its row of `row`
    tokens."""

    def __init__(
        self, *, document_starts: Sequence[int], window: int = 0, hidden: Tensor | None = None, row: int = 0
    ) -> None: ...
    def with_window(self, window: int) -> Mask: ...
    @property
    def document_starts(self) -> list[int]: ...
    @property
    def window(self) -> int: ...
    @property
    def hidden(self) -> list[int]: ...

class Session:
    """Runs steps by a plan, one layer at a time, in the order of layers."""

    def forward(self, layer: int, hidden: Tensor, seed: int) -> tuple[Tensor, list[Tensor]]:
        """(tokens, hidden) -> the same shape, and the layer's extra outputs. seed: for the step's random numbers."""
    def backward(
        self, layer: int, d_output: Tensor, d_extra_outputs: Sequence[Tensor], parameters: Sequence[Tensor]
    ) -> tuple[Tensor, list[Tensor | None]]:
        """Gradients of the layer's input and of its parameters."""
    def close(self) -> None:
        """Gives its memory back, and runs no more calls; does nothing while its step may go on."""
    @property
    def step(self) -> int: ...
    @property
    def drew(self) -> bool:
        """Whether any block drew random numbers."""
    @property
    def device_peak(self) -> int:
        """Bytes of the plan's memory that steps have touched."""
    @property
    def departures(self) -> tuple[int, list[str]]:
        """The number of departures from the plan, and descriptions of the first ones."""
    @property
    def check(self) -> dict[str, int] | None:
        """Check mode's report of the first whole step: accesses (ranges of bytes), conflicts (pairs of accesses, each ordered by
        an event), poisoned_bytes."""
    @property
    def last(self) -> dict[str, float] | None:
        """Measurements of the last whole step: seconds, stall_seconds, compute_seconds, bytes_out, bytes_in."""
