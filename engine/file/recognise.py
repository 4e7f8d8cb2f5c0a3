"""What a file may be: the user's own net or one of the zoo whose tensors have the same shapes, as a proposal.

Shapes tell nothing of the activations, of the data that a net was trained on, or of how its inputs
were scaled. So nobody believes a proposal until a person confirms it: till then the file is bare weights.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from engine.data import sets, user
from engine.memory import remembered
from engine.net import sources, zoo
from engine.types import TIES, Arch, Bundle, SlimscopeError

Shapes = Mapping[str, tuple[int, ...]]  # name of a tensor -> its shape, in the order of the file or net
Kind = tuple[tuple[str, tuple[int, ...]], ...]  # the tensors of a module, by name


OWN = "user"  # what a file is taken for that has weights of the model that was named at the start


@dataclass(frozen=True)
class Proposal:
    """A net that a file's tensors fit, of the zoo or OWN; `names` maps the file's names to the net's own."""

    name: str
    names: Mapping[str, str]

    @property
    def is_own(self) -> bool:
        """Whether it is the model that was named at the start."""
        return self.name == OWN

    @property
    def entry(self) -> zoo.Entry:
        """What the zoo knows of it. Raises SlimscopeError for OWN."""
        return zoo.entry(self.name)

    @property
    def title(self) -> str:
        return sources.load_user().arch.title if self.is_own else self.entry.title

    @property
    def data(self) -> str:
        """The data that the net is judged by, as `engine.jobs.keys.read_data` takes it."""
        return sources.task(sources.load_user().arch) if self.is_own else self.entry.data

    @property
    def is_exact(self) -> bool:
        """Whether the names fit, and not the shapes alone."""
        return all(own == ours for own, ours in self.names.items())

    @property
    def scaling(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """(mean, standard deviation) of each channel, as the zoo's own nets see these images."""
        test = sets.load(self.entry.data).test
        return test.mean, test.std

    @property
    def verdict(self) -> str:
        """What the file looks like."""
        fits = "names and shapes are" if self.is_exact else "shapes are, under other names,"
        return f"{fits} those of {self.title}"

    @property
    def sentence(self) -> str:
        """What the file is taken for, and that nobody said so yet."""
        if self.is_own:
            return (
                f"{self.verdict}, and another model may have them, too: taken as "
                f"bare weights until you say --take-for {OWN}"
            )
        mean, std = (",".join(f"{number:g}" for number in numbers) for numbers in self.scaling)
        scale = f", mean {mean}, deviation {std}" if mean else ""
        other = ", with --mean and --std where the inputs were scaled otherwise" if mean else ""
        return (
            f"{self.verdict} (activation {self.entry.activation}, data {self.entry.data}{scale}), but shapes "
            f"do not tell these: taken as bare weights until you say --take-for {self.name}{other}"
        )


def propose(bundle: Bundle) -> Proposal | None:
    """The net that a file may be: the user's own where names and shapes fit, or one of the zoo.

    Of the zoo it is the net that the file's header names, or the first that its tensors fit.
    """
    return _own(bundle) or _of_zoo(bundle)


def _own(bundle: Bundle) -> Proposal | None:
    """Only weights as they came fit: what was edited or compressed says itself what it is."""
    if not user.named().model or bundle.arch.source == OWN or bundle.arch.edits or bundle.lineage:
        return None
    wanted = _shapes(sources.load_user())
    return Proposal(OWN, _same(list(wanted))) if dict(wanted) == dict(_shapes(bundle)) else None


def _of_zoo(bundle: Bundle) -> Proposal | None:
    if bundle.arch.name in zoo.KNOWN:
        return Proposal(bundle.arch.name, _same(list(bundle.params)))
    shapes = _shapes(bundle)
    exact = matching(shapes)
    if exact:
        return Proposal(exact, _same(list(shapes)))
    for name in zoo.KNOWN:
        found = mapping(shapes, zoo_shapes(name))
        if found:
            return Proposal(name, MappingProxyType(found))
    return None


def bare(bundle: Bundle) -> Bundle:
    """The same tensors without an architecture: nothing that runs the net is worked out of them."""
    config = {TIES: bundle.arch.ties} if bundle.arch.ties else {}
    return replace(bundle, arch=Arch("bare", (), config)) if bundle.arch.runs else bundle


def take(bundle: Bundle, name: str = "") -> Bundle:
    """The bundle as the net that a person took it for; without a name, as the one of the zoo that it fits.

    Raises SlimscopeError where its tensors do not fit that net.
    """
    if bundle.arch.runs and name in ("", bundle.arch.name, bundle.arch.source):
        return bundle
    found = _proposed(bundle, name) if name else _of_zoo(bundle)
    if found is None:
        fits = propose(bundle)
        allowed = f"they fit {fits.name}" if fits else "they can be explored as bare weights"
        asked = user.named().model or "a model that nobody named" if name == OWN else name
        raise SlimscopeError(f"these tensors do not fit {asked or 'any model of the zoo'}: {allowed}")
    if found.is_own:
        own = sources.load_user()
        return replace(bundle, arch=own.arch, params={name: bundle.params[name] for name in own.params})
    ours = {found.names[own]: param for own, param in bundle.params.items()}
    return replace(bundle, arch=Arch(found.name), params={n: ours[n] for n in zoo_shapes(found.name)})


def _proposed(bundle: Bundle, name: str) -> Proposal | None:
    """The bundle as this net and no other; None where it does not fit, or says itself that it is another."""
    if name == OWN:
        return _own(bundle)
    zoo.entry(name)
    names = None if bundle.arch.runs else mapping(_shapes(bundle), zoo_shapes(name))
    return Proposal(name, MappingProxyType(names)) if names else None


def _shapes(bundle: Bundle) -> Shapes:
    return {name: tuple(param.shape) for name, param in bundle.params.items()}


def _same(names: list[str]) -> Mapping[str, str]:
    return MappingProxyType({name: name for name in names})


# ---------------------------------------------------------------- names and shapes


def matching(shapes: Shapes) -> str:
    """The net of the zoo that has these names and shapes; empty where none has."""
    return next((name for name in zoo.KNOWN if zoo_shapes(name) == shapes), "")


@remembered
def zoo_shapes(name: str) -> Shapes:
    """Name -> shape of every tensor of a zoo net, batch-norm's counters left out."""
    skeleton = zoo.skeleton(Arch(name)).state_dict()
    return MappingProxyType(
        {n: tuple(t.shape) for n, t in skeleton.items() if not n.endswith(sources.COUNTER)}
    )


def mapping(shapes: Shapes, wanted: Shapes) -> dict[str, str] | None:
    """The names of a file -> those of a net with the same shapes in the same order, or None.

    Modules of the same name and shapes belong together; those of equal shapes go by order, and where the
    names know no modules, tensor by tensor. Safetensors files sort their names: numbers in them are then
    read as numbers.

    >>> mapping({"0.weight": (3, 2), "0.bias": (3,)}, {"fc.weight": (3, 2), "fc.bias": (3,)})
    {'0.bias': 'fc.bias', '0.weight': 'fc.weight'}
    """
    if len(shapes) != len(wanted) or sorted(shapes.values()) != sorted(wanted.values()):
        return None
    for ordered in _orders(shapes):
        found = _by_module(ordered, wanted, True) or _by_module(ordered, wanted, False)
        if found:
            return found
    for ordered in _orders(shapes):
        if list(ordered.values()) == list(wanted.values()):
            return dict(zip(ordered, wanted, strict=True))
    return None


def _orders(shapes: Shapes) -> Iterator[Shapes]:
    """The shapes in the file's order and in that of its names; first the likelier of the two."""
    by_name = {name: shapes[name] for name in sorted(shapes, key=_natural)}
    both = [shapes, by_name]
    yield from reversed(both) if list(shapes) == sorted(shapes) else both


def _natural(name: str) -> list[tuple[int, str]]:
    """Sorts `layer.2` before `layer.10`."""
    return [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"(\d+)", name)]


def _by_module(shapes: Shapes, wanted: Shapes, keep: bool) -> dict[str, str] | None:
    """Modules of equal shapes paired by order; with `keep`, those of the same name in both come first."""
    theirs, ours = _modules(shapes), _modules(wanted)
    pairs = {module: module for module in theirs if keep and ours.get(module) == theirs[module]}
    free: dict[Kind, list[str]] = {}
    for module, kind in ours.items():
        if module not in pairs:
            free.setdefault(kind, []).append(module)
    for module, kind in theirs.items():
        if module not in pairs:
            if not free.get(kind):
                return None
            pairs[module] = free[kind].pop(0)
    return {
        f"{own}.{leaf}" if own else leaf: f"{other}.{leaf}" if other else leaf
        for own, other in pairs.items()
        for leaf, _ in theirs[own]
    }


def _modules(shapes: Shapes) -> dict[str, Kind]:
    """Module -> what is in it, by name, in the order of the modules' first tensors."""
    found: dict[str, list[tuple[str, tuple[int, ...]]]] = {}
    for name, shape in shapes.items():
        module, _, leaf = name.rpartition(".")
        found.setdefault(module, []).append((leaf, shape))
    return {module: tuple(sorted(leaves)) for module, leaves in found.items()}
