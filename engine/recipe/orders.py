"""The same steps in every order: bytes of the real file and accuracy after each step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations

from engine.data.sets import Data, Samples
from engine.figures import measure
from engine.file import packfile
from engine.recipe import technique
from engine.recipe.run import apply
from engine.types import Bundle, Figure, SlimscopeError, Step

MOST = 4  # steps: 24 orders with 64 different beginnings


@dataclass(frozen=True)
class Reached:
    """What the first steps of an order give: the file, and accuracy on samples; or why they can't be done."""

    steps: tuple[Step, ...]
    size: Figure | None = None
    accuracy: Figure | None = None
    problem: str = ""


def every_order(bundle: Bundle, steps: Sequence[Step], data: Data, sample: Samples) -> Iterator[Reached]:
    """Every beginning of every order of up to four different steps, each worked out once, depth first.

    An order of n steps is done where a `Reached` has n of them. After a step that can't be done no other
    is tried. Raises SlimscopeError for more steps, for equal ones, and for one that trains.
    """
    _check(steps)
    made: dict[tuple[Step, ...], Bundle | None] = {(): bundle}
    for order in permutations(steps):
        for length in range(1, len(order) + 1):
            before, beginning = made.get(order[: length - 1]), order[:length]
            if before is None:
                break
            if beginning not in made:
                made[beginning], reached = _reach(before, beginning, data, sample)
                yield reached


def _reach(
    before: Bundle, steps: tuple[Step, ...], data: Data, sample: Samples
) -> tuple[Bundle | None, Reached]:
    try:
        after, _ = apply(before, steps[-1], data)
        accuracy = measure.accuracy(after, sample)
        return after, Reached(steps, packfile.size(after), accuracy)
    except SlimscopeError as error:
        return None, Reached(steps, problem=str(error))


def _check(steps: Sequence[Step]) -> None:
    if len(steps) > MOST:
        raise SlimscopeError(f"{len(steps)} steps have too many orders: allowed are at most {MOST}")
    if len(set(steps)) < len(steps):
        raise SlimscopeError("two of the steps are the same: allowed are different ones")
    for step in steps:
        if technique.get(step.technique).trains:
            raise SlimscopeError(f"{step.technique} trains: allowed are steps that do not")
