"""What follows a slider while it moves: worked out by the page's own function, asked for by `stage.js`.

The same answer goes two ways: through the page's fragment after a move, and to whoever asks at
`/live` during one. A page names its function by running once; whoever asks then gets what the
page would show, for a recipe that is checked like one from a link.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from engine.figures import count
from engine.jobs import layerwise, store
from engine.net import zoo
from engine.recipe import migrate, technique
from engine.tensor.index import Index
from engine.types import Bundle, Recipe, Report, SlimscopeError, Step, weight_layers
from pages.parts import cached, lesson, spoken, tiles
from pages.parts.figures import caption
from pages.parts.lesson import NONE, Lesson
from pages.parts.weight_maps import Picture

Marks = Mapping[str, list[dict[str, Any]]]


@dataclass(frozen=True)
class Scene:
    """What a page shows: the bundle before and after its step, the step's report, and the chosen layer."""

    subject: str
    key: str  # of the recipe before the step
    step: Step
    before: Bundle
    after: Bundle
    report: Report
    layer: str
    large: bool = False  # then `before` and `after` hold this layer alone, maybe not all its rows

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """The layers of the whole model, as they enter the step."""
        return tuple(weight_layers(cached.original(self.subject) if self.large else self.before))

    @cached_property
    def index(self) -> Callable[[tuple[str, ...]], Index]:
        """The index of some layers together, as they enter the step."""

        @cache  # a move asks for each of them several times
        def found(layers: tuple[str, ...]) -> Index:
            if not self.large:
                return cached.index(self.subject, self.key, layers)
            return (
                layerwise.alone(self.before)(layers)
                if self.key != "[]"
                else cached.pool(self.subject, layers)
            )

        return found

    @cached_property
    def weight(self) -> Tensor:
        """The chosen layer's weight as it enters the step."""
        return self.before.params[weight_layers(self.before)[self.layer]].decode()

    @cached_property
    def row(self) -> dict[str, Any]:
        """The report's row about the chosen layer; empty where the step leaves it alone."""
        rows = self.report.tables["layers"]
        layers = rows["layer"].tolist()
        if self.layer not in layers:
            return {}
        place = layers.index(self.layer)
        return {name: rows[name].tolist()[place] for name in rows}


@dataclass(frozen=True)
class Update:
    """What moves: marks over charts (chart key -> marks), pieces of HTML (place -> HTML), the aha and the trap."""

    marks: Marks = field(default_factory=dict)
    html: Mapping[str, str] = field(default_factory=dict)
    lesson: Lesson = NONE


@dataclass(frozen=True)
class Thumbnail:
    """A small picture that the browser can draw for any stop of a slider.

    A pixel has the colour of its number in `picture` until the slider reaches its stop in `goes`
    (255: never); from there on it has the first colour of the palette.
    """

    place: str
    picture: Picture
    goes: NDArray[np.uint8]

    @property
    def message(self) -> dict[str, Any]:
        """As JSON: sizes, palette, and two strings of bytes in base64."""
        height, width = self.goes.shape
        return {
            "place": self.place,
            "width": width,
            "height": height,
            "palette": self.picture.palette.tolist(),
            "numbers": base64.b64encode(self.picture.numbers.tobytes()).decode(),
            "goes": base64.b64encode(self.goes.tobytes()).decode(),
        }


@dataclass(frozen=True)
class Precomputed:
    """What a browser needs to answer by itself: marks for each stop of a slider, and maybe a picture."""

    marks: list[Marks]
    thumbnail: Thumbnail | None = None

    @property
    def message(self) -> dict[str, Any]:
        picture = {} if self.thumbnail is None else {"thumbnail": self.thumbnail.message}
        return {"marks": self.marks, **picture}


class Unknown(SlimscopeError):
    """A visitor without a cookie asks for what only visitors with one get."""


LARGE = "This model is large: a move is worked out on one layer, and on the whole model in the background."

Page = Callable[[Scene], Update]
Precompute = Callable[[Scene, str, list[Any]], Precomputed | None]  # scene, setting, stops
PAGES: dict[str, Page] = {}  # technique -> the function of its page, once that has been drawn


def scene(subject: str, whole: Recipe, at: int, layer: str) -> Scene:
    """The view of step `at`, which counts as switched on here; steps after it do not matter."""
    step = whole.steps[at]
    before = Recipe(whole.steps[:at]).live
    through = before.then(Step(step.technique, step.settings))
    if cached.is_large(subject):
        try:
            return _of_layer(subject, before, through, layer)
        except SlimscopeError:
            if cached.is_bare_and_large(subject):
                raise  # else a job does to the whole model what its layers don't tell
    base = cached.after(subject, before.key)[0]
    after, reports = cached.after(subject, through.key)
    return Scene(subject, before.key, step, base, after, reports[-1], layer)


def _of_layer(subject: str, before: Recipe, through: Recipe, layer: str) -> Scene:
    """The view of one layer of a large model, by itself."""
    step, known = through.steps[-1], [technique.get(each.technique) for each in through]
    # The threshold of a later step comes from the layer as it enters it, which has to be whole then.
    rows = any(each.needs_all_rows for each in known) or any(each.ranked for each in known[1:])
    base = cached.seen(subject, before.key, layer, rows)[0]
    after, reports = cached.seen(subject, through.key, layer, rows)
    inside = weight_layers(base)  # a step before may have split the layer
    shown = layer if layer in inside else next(iter(inside))
    notes = (*reports[-1].notes, LARGE, *_in_part(subject, layer, base, after))
    report, ranked = replace(reports[-1], notes=notes), known[-1].ranked
    if ranked is not None and not before.steps:
        labels = list(weight_layers(cached.original(subject)))
        table = ranked.table(dict(step.settings), labels, cached.pools(subject))
        report = replace(report, tables={"layers": table})
    return Scene(subject, before.key, step, base, after, report, shown, True)


def _in_part(subject: str, layer: str, base: Bundle, after: Bundle) -> list[str]:
    """Which rows of a layer are looked at, and how far what they lose may be from what all lose."""
    rows, shown = dict(count.weights(cached.original(subject)))[layer].shape[0], count.weights(base)[0][1]
    if len(shown) >= rows or base.arch.edits:
        return []
    words = (
        f"Pictures and errors are those of {len(shown):,} of the layer's {rows:,} rows, "
        "evenly spaced, with the rows of its two extremes."
    )
    margin = layerwise.margin(shown, count.weights(after)[0][1], rows)
    return [f"{words} The squared error of all rows is that of these, give or take {margin:.2g} % (95 %)."]


def answer(subject: str, whole: Recipe, at: int, layer: str) -> dict[str, Any]:
    """Marks, pieces of HTML and quick tiles for step `at` of a recipe; the names of the tiles that follow.

    Where more steps come after this one, they are not waited for: all tiles follow.
    """
    key = whole.live.key

    def work() -> dict[str, Any]:
        shown = scene(subject, whole, at, layer)
        update = PAGES[shown.step.technique](shown)
        is_last = shown.step.on and not Recipe(whole.steps[at + 1 :]).live
        quick = tiles.quick(subject, key)[0] if is_last else []
        known = {tile.name: tile.html() for tile in quick if not tile.pending}
        return {
            "key": key,
            "marks": dict(update.marks),
            "html": {
                **update.html,
                lesson.PLACE: update.lesson.html(),
                "state": spoken.state(whole),
                "notes": "".join(map(caption, shown.report.notes)),
            },
            "tiles": known,
            "pending": [name for name in tiles.NAMES if name not in known],
        }

    found = cached.answer(f"{subject} {whole.key} {at} {layer}", work)
    assert found is not None
    return found


def precomputed(seen: Scene, ahead: Precompute, setting: str, stops: list[Any]) -> dict[str, Any] | None:
    """What the browser may show at each stop of a slider, whatever its present value."""
    others = Step(seen.step.technique, {k: v for k, v in seen.step.settings.items() if k != setting})

    def work() -> dict[str, Any] | None:
        known = ahead(seen, setting, stops)
        return known and known.message

    return cached.answer(f"ahead {seen.subject} {seen.key} {others.key} {seen.layer} {setting} {stops}", work)


def late(owner: str, subject: str, key: str, names: tuple[str, ...] = tiles.SLOW) -> dict[str, Any]:
    """Quick tiles of a recipe, those of `names` that must be measured, and what is wrong with it."""
    quick, alert = tiles.quick(subject, key, owner)
    row = [*tiles.measured(owner, subject, key, names), *quick]
    return {"key": key, "tiles": {tile.name: tile.html() for tile in row}, "html": {"alert": alert}}


def _specs(about: dict[str, Any] | None) -> list[str]:
    """What a visitor may ask of a file: as bare weights at any time, and as what was confirmed of it.

    A question may still be on its way when the answer changes.
    """
    return [] if about is None else ["", about.get("data", ""), *about.get("said", ())]


def asked(owner: str, body: bytes) -> dict[str, Any]:
    """The answer to a question from the browser; raises SlimscopeError where it asks for what is not its own.

    A question is about a step (`recipe`, `at`, `layer`), or asks for a `tile` that must be
    measured, of the recipe with the key `measured`.
    """
    try:
        question = json.loads(body)
        subject, key, tile = question["subject"], question.get("measured"), question.get("tile", "")
        text = json.dumps(question["recipe"]) if key is None else key
        at, layer = question.get("at", 0), question.get("layer", "")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise SlimscopeError(f"not a question: {error!r}") from None
    if type(at) is not int or not all(isinstance(text, str) for text in (subject, text, layer, tile)):
        raise SlimscopeError(
            "not a question: subject, layer, measured and tile are text, at is a whole number"
        )
    model, spec = cached.parts(subject)
    mine = {**cached.given(), **((store.get(f"files-{owner}") or {}) if owner else {})}
    if spec not in ([zoo.entry(model).data] if model in zoo.trained() else _specs(mine.get(model))):
        raise SlimscopeError(f"model {model[:60]!r} is not known here")
    whole = migrate.read(text)
    if key is not None:
        if not owner:
            raise Unknown("measuring may start a job, which needs an owner: no cookie came with the question")
        return late(owner, subject, whole.live.key, (tile,))
    if not 0 <= at < len(whole) or whole.steps[at].technique not in PAGES:
        raise SlimscopeError(f"step {at} of this recipe has no page that was drawn")
    if layer not in weight_layers(cached.base(subject, Recipe(whole.steps[:at]))):
        raise SlimscopeError(f"layer {layer[:60]!r} is not in this model")
    return answer(subject, whole, at, layer)
