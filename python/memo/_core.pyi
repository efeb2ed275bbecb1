"""The planner and executor (memo/python/module.cpp). BadInput: bad input, or nothing fits; Failed: a step failed."""

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

version: str

def strategies() -> list[str]:
    """Names of what plans may be asked for."""

def parse_bytes(text: str) -> int:
    """Of a size such as "512MiB", as in job.toml."""

def format_bytes(bytes: int) -> str:
    """Such as "1.50 GiB"."""

def auto_block(context: int) -> int:
    """Tokens per block of block = "auto"."""

def open_device(place: torch.device) -> None:
    """Raises where layers cannot run on it: ValueError, or RuntimeError."""

def report(plan: str, page: str) -> None:
    """Writes the page about the plan of a file."""

class _Calls(Protocol):
    """A layer's halves around attention, for blocks of T tokens."""

    def before(self, layer: int, block: int, x: Tensor) -> tuple[Tensor, Tensor, Tensor, float, Mask]:
        """(T, hidden) -> q (heads, T, head_dim), k and v (kv_heads, T, head_dim), soft cap of the scores (0: none), which
        keys all tokens' queries see."""
    def after(self, layer: int, block: int, o: Tensor) -> tuple[Tensor, list[Tensor]]:
        """(T, heads, head_dim) -> (T, hidden), and what else the layer gives, (T, any)."""
    def begin_exchange(self, out: Tensor, given: Tensor) -> None:
        """All-to-all of ranks that share a sequence: (ranks, ...)"""
    def end_exchange(self) -> None:
        """Waits for the oldest that was begun."""
    ranks: int
    def forget(self) -> None:
        """Ends blocks between before and after."""

class BadInput(ValueError): ...
class Failed(RuntimeError): ...

class Plan:
    def describe(self) -> dict[str, Any]:
        """strategy; context and block in tokens; device_peak, device_lower_bound, bytes_out and bytes_in in bytes;
        step_seconds and stall_seconds."""
    def save(self, path: str) -> None: ...
    @staticmethod
    def load(path: str) -> Plan: ...
    def check(self) -> list[str]:
        """What fails; empty where the plan is proved."""

class Profile: ...

def make_plan(profile: Profile, strategy: str, device_limit: int) -> Plan:
    """device_limit in bytes, 0: none."""

class LayerOptions:
    """Of layers: their shape, the kind of each (kinds, from 0), and of each kind whether what is behind attention allocates by
    values; forward_layers: the first layers, which have no backward side. Limits in bytes, 0: none."""

    def __init__(
        self, *, model: str, hidden_size: int, heads: int, kv_heads: int, head_dim: int, groups: int, block: int,
        host_limit: int, disk: str | None, disk_limit: int, windows: Sequence[int], dtype: torch.dtype,
        attention: torch.dtype, kinds: Sequence[int], data_dependent: Sequence[bool], forward_layers: int,
    ) -> None: ...

def trace_layer(
    options: LayerOptions, hidden: Tensor, parameters: Sequence[Tensor], calls: _Calls
) -> tuple[str, str, bool]:
    """What layer 0 of the calls allocates for a block (tokens, hidden), before its attention and behind it; and whether it
    draws random numbers."""

class Profiler:
    """Measures a layer of each kind: layer k of the calls is of kind k, as are hidden[k] and parameters[k]."""

    def __init__(
        self, options: LayerOptions, hidden: Sequence[Tensor], parameters: Sequence[Sequence[Tensor]], calls: _Calls
    ) -> None: ...
    def profile(self, context: int) -> Profile:
        """Of a context of whole blocks."""
    def try_layer(
        self, kind: int, calls: _Calls, hidden: Tensor, d_output: Tensor | None, parameters: Sequence[Tensor]
    ) -> tuple[Tensor] | tuple[Tensor, Tensor, list[Tensor | None]]:
        """Layer 0 of the calls, which is of this kind: its output, and (with d_output) the gradients of its input and
        parameters."""
    def open(self, plan: Plan, calls: _Calls, watch: bool) -> Session:
        """watch: whether check mode watches the first step."""

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
    """Runs steps by a plan, layer by layer; the layers of a step in order."""

    def forward(self, layer: int, hidden: Tensor, seed: int) -> tuple[Tensor, list[Tensor]]:
        """(tokens, hidden) -> the same shape, and what else the layer gives. seed: of the step's random numbers."""
    def backward(
        self, layer: int, d_output: Tensor, d_extra_outputs: Sequence[Tensor], parameters: Sequence[Tensor]
    ) -> tuple[Tensor, list[Tensor | None]]:
        """Gradients of the layer's input and of its parameters."""
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
        """How often calls departed from the plan, and where first."""
    @property
    def check(self) -> dict[str, int] | None:
        """Of the first whole step, which is watched for races and for memory that is read before it is filled: ranges
        accessed, conflicts (pairs of accesses, each ordered), poisoned_bytes."""
    @property
    def last(self) -> dict[str, float] | None:
        """Of the last whole step: seconds, stall_seconds, compute_seconds, bytes_out, bytes_in."""
