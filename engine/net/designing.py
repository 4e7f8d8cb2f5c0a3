"""Designs of a model: narrower copies of it, with cheaper convolutions or without."""

from __future__ import annotations

from dataclasses import dataclass

from engine.net import channels, zoo
from engine.net.input_quantizer import VERBS
from engine.net.narrower import spaced
from engine.net.replacing import fitting
from engine.tensor.compact import Design
from engine.types import Arch, Bundle, SlimscopeError

PARTS = ("first", "middle", "last")  # thirds of a model's groups of channels, in its own order
EVEN = 8  # channels: counts from this on are multiples of it, which groups and processors divide
STANDARD = Design("standard")


@dataclass(frozen=True)
class Blueprint:
    """A design: the share of channels that each third has, and which convolutions of which third it has.

    `convolutions` take the place of those that can be replaced, but for the first `since` thirds of these.
    """

    widths: tuple[float, float, float]
    convolutions: Design = STANDARD
    since: int = 0


def possible(bundle: Bundle) -> None:
    """Raise SlimscopeError where no channel of a model can go."""
    if not channels.groups(bundle):
        raise SlimscopeError(f"{zoo.title(bundle.arch)} has no channels that can go: it has one design alone")


def drawn(bundle: Bundle, blueprint: Blueprint) -> Arch:
    """The architecture of a design of this model; its inputs are not rounded.

    Raises SlimscopeError where no channels can go, and where no convolution fits those that are wanted.

    >>> drawn(zoo.load("lenet-5"), Blueprint((0.5, 0.5, 0.1))).edits[0][1]["outputs"]
    {'conv1': 8, 'conv2': 24, 'fc1': 48}
    """
    possible(bundle)
    known = channels.groups(bundle)
    kept = {
        name: spaced(
            group.channels, _share(group.channels, blueprint.widths[number * len(PARTS) // len(known)])
        )
        for number, (name, group) in enumerate(known.items())
    }
    narrow, wanted = channels.keep(bundle, kept), blueprint.convolutions
    edits = (edit for edit in narrow.arch.edits if edit[0] not in VERBS)
    arch = Arch(narrow.arch.name, tuple(edits), narrow.arch.config)
    if wanted == STANDARD:
        return arch
    labels, _ = fitting(narrow, wanted)
    for label in labels[blueprint.since * len(labels) // len(PARTS) :]:
        form = {"design": wanted.name, "groups": wanted.groups, "expansion": wanted.expansion}
        arch = arch.edit("replace_conv", layer=label, **form)
    return arch


def _share(total: int, share: float) -> float:
    """The share that leaves a multiple of EVEN channels, where it leaves so many at all.

    >>> _share(64, 0.3), _share(10, 0.5)
    (0.25, 0.5)
    """
    count = share * total
    return EVEN * round(count / EVEN) / total if count >= EVEN else share
