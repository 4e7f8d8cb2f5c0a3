"""The nouns of slimscope: figures, recipes, and a net as frozen data.

Everything here is a value. Nothing here knows how a net is built (`engine.net.zoo`),
what a technique does (`engine.techniques`) or how a figure is obtained
(`engine.figures.count`, `engine.figures.theory`, `engine.figures.measure`).
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import pandas as pd
from torch import Tensor, nn


class SlimscopeError(Exception):
    """A mistake that the person at the keyboard can mend; its text says how."""


class Basis(StrEnum):
    """Where a number comes from; the three never share a name on screen."""

    COUNTED = "counted"  # exact, read off the tensors
    MODELLED = "modelled"  # a formula under stated assumptions
    MEASURED = "measured"  # observed by running or writing


@dataclass(frozen=True)
class Figure:
    """One number with its unit, its basis and how it was obtained.

    `spread` is the interval (low, high) of a measured figure, in the same unit.

    >>> Figure("parameters", 266610, "1", Basis.COUNTED, "sum of elements").value
    266610
    """

    name: str
    value: float
    unit: str
    basis: Basis
    how: str
    spread: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.spread is not None and self.basis is not Basis.MEASURED:
            raise ValueError(f"figure {self.name!r} is {self.basis}: only a measured one has a spread")

    def to_dict(self) -> dict[str, Any]:
        """The figure as JSON-ready data, in the order in which people read it."""
        return {
            "name": self.name,
            "value": self.value,
            "unit": self.unit,
            "basis": str(self.basis),
            "how": self.how,
            "spread": None if self.spread is None else list(self.spread),
        }


# ---------------------------------------------------------------- recipes


def _frozen(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """Settings as they come back from JSON, read-only, so that equal text is an equal step."""
    plain = json.loads(json.dumps(dict(settings), default=_plain, allow_nan=False))
    return MappingProxyType(plain)


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(
        f"a setting must be plain data (numbers, text, lists, tables), got {type(value).__name__}"
    )


@dataclass(frozen=True)
class Step:
    """One technique with its settings, as pure data; `on=False` keeps it in the recipe, unused.

    >>> Step("prune_weights", {"sparsity": 0.9}).key
    '["prune_weights",{"sparsity":0.9}]'
    """

    technique: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    on: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "settings", _frozen(self.settings))

    def __hash__(self) -> int:
        return hash(self.key)

    def __reduce__(self) -> tuple[Any, ...]:
        return (Step, (self.technique, dict(self.settings), self.on))

    @property
    def data(self) -> list[Any]:
        """The step as a JSON list: name, settings, and `false` where it is switched off."""
        return [self.technique, dict(self.settings), *([] if self.on else [False])]

    @property
    def key(self) -> str:
        """Canonical text; equal steps have equal keys."""
        return json.dumps(self.data, sort_keys=True, separators=(",", ":"), allow_nan=False)


@dataclass(frozen=True)
class Recipe:
    """Steps in the order in which they are applied; the empty recipe is the original net.

    `engine.recipe.technique.complete` writes every default into the steps, so that the key of
    a recipe does not depend on what was left unsaid.

    >>> r = Recipe((Step("prune_weights", {"sparsity": 0.9}),))
    >>> Recipe.from_key(r.key) == r
    True
    """

    steps: tuple[Step, ...] = ()

    def then(self, step: Step) -> Recipe:
        """This recipe with one more step at its end."""
        return Recipe((*self.steps, step))

    @property
    def live(self) -> Recipe:
        """The recipe without the steps that are switched off: what is really applied."""
        return Recipe(tuple(s for s in self.steps if s.on))

    @property
    def key(self) -> str:
        """Canonical JSON text, used as URL state, cache key and caption."""
        return "[" + ",".join(s.key for s in self.steps) + "]"

    @classmethod
    def from_key(cls, text: str) -> Recipe:
        """Read a recipe back from its key. Only JSON is read, nothing is evaluated.

        Raises SlimscopeError where the text is not a list of [name, settings] pairs, or holds what
        no setting may be: numbers that are not finite or too long, text that UTF-8 can't write.
        """
        raw = _json_from(text)
        if not isinstance(raw, list):
            raise SlimscopeError(f"a recipe is a list of [technique, settings], got {type(raw).__name__}")
        try:
            return cls(tuple(_step_from(item) for item in raw))
        except RecursionError:  # a step is read a few calls deeper than its text
            raise SlimscopeError(f"recipe {text[:80]!r} is nested too deeply") from None

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[Step]:
        return iter(self.steps)


def _json_from(text: str) -> object:
    """The data in a recipe's text, safe to be written again as JSON in UTF-8."""
    try:
        raw = json.loads(text, parse_constant=_no_constant)
        json.dumps(raw, ensure_ascii=False, allow_nan=False).encode()
    except (json.JSONDecodeError, RecursionError) as error:
        raise SlimscopeError(f"recipe {text[:80]!r} is not JSON: {error}") from None
    except UnicodeEncodeError:
        raise SlimscopeError(f"recipe {text[:80]!r} holds half of a surrogate pair") from None
    except ValueError:  # 1e999, or an integer with more digits than Python converts
        raise SlimscopeError(f"recipe {text[:80]!r} holds a number that is not finite or too long") from None
    return raw


def _no_constant(name: str) -> None:
    raise SlimscopeError(f"a recipe holds {name}: allowed are finite numbers")


def _step_from(item: object) -> Step:
    match item:
        case [str(name), dict(settings)]:
            return Step(name, settings)
        case [str(name), dict(settings), bool(on)]:
            return Step(name, settings, on)
    raise SlimscopeError(f'a step is ["technique", {{settings}}], got {json.dumps(item)[:80]}')


# ---------------------------------------------------------------- parameters


class FormatError(SlimscopeError):
    """A parameter whose parts do not fit together, or bytes that are none; the text names it."""


Section = tuple[str, str, "bytes | memoryview"]  # what a run of bytes holds, how it is coded, the bytes


class Param(ABC):
    """A parameter in one format. Each format is one file in `engine.tensor.formats`."""

    kind: ClassVar[str]  # its id in packed files

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]: ...

    @abstractmethod
    def decode(self) -> Tensor:
        """The values as float32, in `shape`."""

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """The parts as they are stored, by name: integers for codes and zero points, else float32."""

    def settings(self) -> list[Any]:
        """What must be known beside the shape to read it back, as JSON-ready data."""
        return []

    def masked(self, kept: Tensor) -> Param:
        """Exact zeros where `kept` (its shape) is False, in its own format; itself where all is kept."""
        return self if bool(kept.all()) else self.with_zeros(kept)

    @abstractmethod
    def with_zeros(self, kept: Tensor) -> Param:
        """As `masked`, where something goes."""

    @abstractmethod
    def take(self, axis: int, stays: Tensor) -> Param:
        """Only the places `stays` (sorted) along the axis, in its own format if possible."""

    def straight_through(self) -> nn.Module:
        """How it is trained: a `formats.through.StraightThrough`, made of this parameter's scales or table.

        Raises FormatError for a format that cannot be trained on.
        """
        raise FormatError(f"parameters in the format {self.kind!r} can't be trained in it: decode them first")

    @abstractmethod
    def fixed_bits(self) -> int:
        """Bits with codes at fixed width, and all that belongs to them."""

    @abstractmethod
    def huffman_bits(self) -> int:
        """Bits with codes at the length of their Huffman codes, table included."""

    @abstractmethod
    def entropy_bits(self) -> float:
        """Order-0 entropy of its best symbol streams, and 32 bits for each float."""

    def check(self, name: str) -> None:  # noqa: B027  (most formats cannot be inconsistent)
        """Raise FormatError where the parts do not fit together."""

    @abstractmethod
    def sections(self) -> list[Section]:
        """The parameter as runs of bytes, each in the shortest of its codings."""

    @classmethod
    def numbers_beside(cls, shape: list[int], settings: list[Any]) -> int:
        """How many numbers there are beside the parameter's own, such as scales."""
        return 0

    @classmethod
    @abstractmethod
    def from_sections(
        cls, name: str, shape: list[int], settings: list[Any], codings: Sequence[str], cuts: Iterator[bytes]
    ) -> Param:
        """What `sections` wrote; `cuts` gives the bytes. Raises FormatError for anything else."""

    @classmethod
    def unknown(cls, name: str, codings: Sequence[str]) -> FormatError:
        text = ", ".join(map(str, codings))
        return FormatError(f"{name!r} in this .slim file is of an unknown kind: {cls.kind} as {text[:80]}")


# ---------------------------------------------------------------- nets


TIES = "ties"  # in the config of an architecture


@dataclass(frozen=True)
class Arch:
    """A net's shape as data: where it comes from, and JSON edits from `engine.net.surgery.EDITS`.

    The name is one of the zoo, `bare`, or `source:what` of a source in `engine.net.sources`. `bare` is for
    weights without a known architecture: they can be looked at, compressed and packed, but not run.
    `config` is what else the source must know; it is written only where there is any. Its `ties` map the
    second name of a tensor that has several to the name that it is stored under.

    >>> Arch("user:shop.nets:model").source
    'user'
    """

    name: str
    edits: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict)

    def edit(self, verb: str, **settings: Any) -> Arch:
        """This architecture with one more edit at its end."""
        return Arch(self.name, (*self.edits, (verb, _frozen(settings))), self.config)

    @property
    def source(self) -> str:
        """`zoo`, `bare`, or the source in the name."""
        source, said, _ = self.name.partition(":")
        return source if said else "bare" if self.name == "bare" else "zoo"

    @property
    def what(self) -> str:
        """The name without its source."""
        return self.name.partition(":")[2] or self.name

    @property
    def title(self) -> str:
        """The name for people."""
        return "your model" if self.what.startswith("given:") else self.what

    @property
    def runs(self) -> bool:
        return self.name != "bare"

    @property
    def ties(self) -> Mapping[str, str]:
        """Another name of a parameter -> the name that a bundle has it under."""
        found: Mapping[str, str] = self.config.get(TIES, {})
        return found

    @property
    def plain(self) -> Arch:
        """The same net before any edit."""
        return Arch(self.name, (), self.config)

    @property
    def data(self) -> list[Any]:
        """The architecture as JSON-ready data."""
        known = [self.name, [[verb, dict(settings)] for verb, settings in self.edits]]
        return [*known, dict(self.config)] if self.config else known

    @property
    def key(self) -> str:
        """The architecture as text: equal for equal ones, and what is remembered of one goes by it."""
        return json.dumps(self.data, sort_keys=True)

    @classmethod
    def from_key(cls, key: str) -> Arch:
        return cls.from_data(json.loads(key))

    @classmethod
    def from_data(cls, raw: list[Any]) -> Arch:
        name, edits, *config = raw
        arch = cls(name, (), _frozen(*config) if config else {})
        for verb, settings in edits:
            arch = arch.edit(verb, **settings)
        return arch

    def __reduce__(self) -> tuple[Any, ...]:
        return (Arch.from_data, (self.data,))


@dataclass(frozen=True, eq=False)
class Bundle:
    """A net as data: architecture plus parameters. One source of truth for size and behaviour.

    `params` maps every state_dict name to how it is stored; a tensor with several names is stored once,
    under the first (`Arch.ties` has the others). The net is derived (`engine.net.zoo.build`) and never
    kept. `origin` is the uncompressed bundle that this one was made from (`None`: it is itself the
    original); `lineage` is the recipe that made it.
    """

    arch: Arch
    params: Mapping[str, Param]
    source: Bundle | None = None
    lineage: Recipe = Recipe()

    def __post_init__(self) -> None:
        object.__setattr__(self, "params", MappingProxyType(dict(self.params)))

    def __reduce__(self) -> tuple[Any, ...]:
        return (Bundle, (self.arch, dict(self.params), self.source, self.lineage))

    @property
    def origin(self) -> Bundle:
        return self if self.source is None else self.source

    def state(self) -> dict[str, Tensor]:
        """The decoded state_dict: name -> float tensor; names that are tied have the same tensor."""
        stored = self.decoded()
        return {**stored, **{other: stored[name] for other, name in self.arch.ties.items()}}

    def decoded(self) -> dict[str, Tensor]:
        """Every stored tensor once: name -> float tensor."""
        return {name: param.decode() for name, param in self.params.items()}

    def become(self, params: Mapping[str, Param], arch: Arch | None = None) -> Bundle:
        """This bundle with other parameters; `engine.recipe.run.apply` adds the step to its lineage."""
        return Bundle(arch or self.arch, params, self.origin, self.lineage)

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits of SHA-256 over architecture, names, kinds, shapes and bytes."""
        digest = hashlib.sha256(self.arch.key.encode())
        for name in sorted(self.params):
            param = self.params[name]
            digest.update(f"{name}:{param.kind.capitalize()}:{param.shape}".encode())
            for tensor in param.tensors().values():
                digest.update(tensor.detach().contiguous().numpy().data)
        return digest.hexdigest()[:16]


def weight_layers(bundle: Bundle) -> dict[str, str]:
    """Layer label -> name of its weight: every parameter of two or more dimensions.

    A label is the parameter's name without `.weight`; an LSTM's matrices keep their full
    names, because each is compressed by itself.

    >>> from engine.net import zoo
    >>> list(weight_layers(zoo.initial("lenet-300-100")))
    ['fc1', 'fc2', 'fc3']
    """
    return {
        name.removesuffix(".weight"): name for name, param in bundle.params.items() if len(param.shape) >= 2
    }


@dataclass(frozen=True)
class Report:
    """What a technique has to say: figures, and tables that the pictures are drawn from."""

    figures: tuple[Figure, ...] = ()
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    step: Step | None = None  # set by engine.recipe.run.apply


@dataclass
class Progress:
    """How a long computation talks to whoever waits: it reports, and asks whether to stop.

    `report(fraction, row)` takes the share done (0..1) and, where there is something to
    plot, one row of a live series. `cancelled()` is asked between batches. `folder` is where
    what is half done may lie: nothing else is kept there, and the next attempt gets the same.
    """

    report: Callable[[float, Mapping[str, float] | None], None] = lambda fraction, row: None
    cancelled: Callable[[], bool] = lambda: False
    folder: Path | None = None

    def checkpoint(self, name: str) -> Path | None:
        """The file for the checkpoint of one of the computation's trainings; None: it is not kept."""
        return None if self.folder is None else self.folder / f"{name}.pt"

    def part(
        self,
        low: float,
        high: float,
        told: Callable[[Mapping[str, float]], Mapping[str, float] | None] = lambda row: row,
        folder: Path | None = None,
    ) -> Progress:
        """Progress of what fills the share low..high; `told` says what becomes of its rows."""

        def report(fraction: float, row: Mapping[str, float] | None) -> None:
            self.report(low + (high - low) * fraction, None if row is None else told(row))

        return Progress(report, self.cancelled, folder)

    def __call__(self, fraction: float, row: Mapping[str, float] | None = None) -> None:
        if self.cancelled():
            raise Cancelled("cancelled")
        self.report(fraction, row)


class Cancelled(SlimscopeError):
    """Raised inside a computation that was asked to stop."""
