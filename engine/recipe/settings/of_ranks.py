"""Settings of techniques that choose ranks: what decides them, and what each way of choosing asks for."""

from __future__ import annotations

from collections.abc import Mapping

from engine.recipe.knobs import Bound, Choice, Slider


def by(help: str, options: Mapping[str, str]) -> Choice:
    """What decides the rank; the sliders below matter where their choice is made."""
    return Choice(label="Choose the rank by", help=help, options=options)


def rank(high: Bound, unit: str, help: str) -> Slider:
    """From 1 to `high`."""
    when = (("by", ("rank",)),)
    return Slider(low=1, high=high, whole=True, unit=unit, label="Rank", help=help, when=when)


def energy(help: str) -> Slider:
    """How much of a sum of squares a low rank keeps."""
    return Slider(
        low=0.5,
        high=0.999,
        scale="fine",
        unit="share of the squared singular values",
        percent=True,
        label="Energy kept",
        help=help,
        when=(("by", ("energy",)),),
    )


def share(
    help: str, unit: str, label: str = "Weights kept", by: tuple[str, ...] = ("share",), added: bool = False
) -> Slider:
    """How many weights factors may have, against those that they replace."""
    return Slider(
        low=0.05,
        high=1.0,
        step=0.01,
        unit=unit,
        percent=True,
        label=label,
        help=help,
        when=(("by", by),),
        added=added,
    )
