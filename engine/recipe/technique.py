"""@technique and the registry: a function's signature and its decorator are the whole interface.

A technique is `(bundle, data, *, settings...) -> (Bundle, Report)`; one that trains also takes
`progress`. `engine.recipe.run` calls it; nothing here runs anything.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import pandas as pd

from engine.recipe.knobs import Knob, SettingError, Slider, When, shown
from engine.tensor.ranking import Pool
from engine.types import Bundle, Recipe, SlimscopeError, Step

MOST_STEPS = 50  # recipes come from links: one of thousands of steps would hold the server up


STAGES = {
    100: "puts another model in its place",
    200: "splits layers",
    300: "removes whole structures",
    400: "removes weights and trains, in turns",
    500: "removes weights",
    600: "trains what is left",
    700: "rewrites numbers in fewer bits",
}
RUNS = ("instant", "seconds", "trains")
LOCALITIES = ("element", "row", "layer", "ranked", "model")


@dataclass(frozen=True)
class Cost:
    """What a training costs: passes over training samples, how many images a pass has, and whose they are.

    `images` is None for all of them; `student` says that the zoo's student of the model is what trains.
    """

    epochs: int
    images: int | None = None
    student: bool = False


@dataclass(frozen=True)
class Ranked:
    """How a technique whose layers compete treats one layer, from indexes of the weights.

    `alone(settings, layer, labels, pool)` gives settings under which the layer by itself becomes what it
    becomes in its model; `table(settings, labels, pool)` gives the report's `layers`, with no weight touched.
    """

    alone: Callable[[dict[str, Any], str, Sequence[str], Pool], dict[str, Any]]
    table: Callable[[dict[str, Any], Sequence[str], Pool], pd.DataFrame]


@dataclass(frozen=True, kw_only=True)
class Technique:
    """A registered technique: all that anything else needs to know of it."""

    name: str
    title: str
    family: str
    reference: str
    page: str
    about: str
    function: Callable[..., Any]
    knobs: Mapping[str, Knob]
    defaults: Mapping[str, Any]
    stage: int
    runs: str
    cost: Callable[[Mapping[str, Any]], Cost] | None
    locality: str
    whole: tuple[When, ...]
    ranked: Ranked | None
    tables: Mapping[str, tuple[str, ...]]
    series: tuple[str, ...]
    needs_model: bool
    presets: Mapping[str, Mapping[str, Any]]
    possible: Callable[[Bundle], object]
    known_by: str
    mends: bool
    aha: str
    trap: str

    @property
    def trains(self) -> bool:
        """Whether it trains: it is run as a job, takes `progress`, and declares its cost."""
        return self.runs == "trains"

    @property
    def needs_all_rows(self) -> bool:
        """Whether some rows of a weight do not become what they become among all rows."""
        return self.locality == "layer"

    def sees_model(self, settings: Mapping[str, Any]) -> bool:
        """Whether with these settings a layer by itself does not tell what becomes of it."""
        now = {**self.defaults, **settings}
        return (
            self.locality == "model"
            or self.needs_model
            or any(now[name] in values for name, values in self.whole)
        )

    def why_not(self, bundle: Bundle) -> str:
        """Why it can't work on a model, whatever its settings; nothing where it can."""
        try:
            self.possible(bundle)
        except SlimscopeError as error:
            return str(error)
        return ""

    def main(self, settings: Mapping[str, Any]) -> str | None:
        """The setting that a step is known by: the declared one, or its first slider that matters."""
        if self.known_by:
            return self.known_by
        sliders = (n for n, k in self.knobs.items() if isinstance(k, Slider) and k.visible(settings))
        return next(sliders, None)

    def check(self, settings: Mapping[str, Any], bundle: Bundle | None = None) -> dict[str, Any]:
        """Complete settings in their own types. Raises SettingError."""
        for name in settings:
            if name not in self.knobs:
                raise SettingError(
                    f"{self.name} has no setting {shown(name)}; it has {', '.join(self.knobs)}"
                )
        merged = {**self.defaults, **settings}
        return {name: knob.check(name, merged[name], bundle) for name, knob in self.knobs.items()}


REGISTRY: dict[str, Technique] = {}


def technique(
    *,
    family: str,
    title: str,
    reference: str,
    stage: int,
    runs: str,
    locality: str,
    tables: Mapping[str, tuple[str, ...]],
    whole: tuple[When, ...] = (),
    page: str = "",
    cost: Callable[[Mapping[str, Any]], Cost] | None = None,
    ranked: Ranked | None = None,
    series: tuple[str, ...] = (),
    needs_model: bool = False,
    presets: Mapping[str, Mapping[str, Any]] | None = None,
    possible: Callable[[Bundle], object] = lambda bundle: None,
    known_by: str = "",
    mends: bool = False,
    aha: str = "",
    trap: str = "",
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a function as a technique under its own name; the settings are read off its signature.

    - `stage`: its natural place in a recipe, within a hundred of STAGES; a new step goes before the first
      of a higher stage.
    - `runs`: `instant`, `seconds`, or `trains`; one that trains takes `progress` and declares its `cost`.
    - `locality`: the least that it must see to be right about a part of it: `element`, `row`, `layer`,
      `ranked` (all layers compete; then `ranked` says how an index answers), or the whole `model`.
    - `whole`: settings with which it must see the whole model, whatever its locality.
    - `tables`: the columns of every table that its report may have.
    - `series`: what its runs are called, where the live rows of a training number them in `run`.
    - `page`: the file in pages/ that shows it; without one it has a page of its name.
    - `presets`: named settings (`gentle`, `balanced`, `extreme`).
    - `possible`: raises SlimscopeError for models that it cannot work on, before anything is trained.
    - `known_by`: the setting that names a step, where that is not its first slider.
    - `mends`: it does nothing to a model that was not compressed before: its page opens in the recipe.
    - `aha`, `trap`: what its page wants to be remembered, a sentence each, where no file of its own says it.

    Raises ValueError for a name that is taken, a setting without a knob or a default, a missing docstring, or
    declarations that are unknown or contradict each other.
    """

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        name = function.__name__
        knobs, defaults = _read_signature(function)
        known = Technique(
            name=name,
            title=title,
            family=family,
            reference=reference,
            page=page or name,
            about=inspect.cleandoc(function.__doc__ or "").split("\n\n")[0].replace("\n", " "),
            function=function,
            knobs=knobs,
            defaults=defaults,
            stage=stage,
            runs=runs,
            cost=cost,
            locality=locality,
            whole=whole,
            ranked=ranked,
            tables=tables,
            series=series,
            needs_model=needs_model or runs == "trains",
            presets=presets or {},
            possible=possible,
            known_by=known_by,
            mends=mends,
            aha=aha,
            trap=trap,
        )
        _check_declared(known)
        REGISTRY[name] = known
        return function

    return register


def _check_declared(known: Technique) -> None:
    """Raises ValueError for what a technique must not say of itself."""
    takes_progress = "progress" in inspect.signature(known.function).parameters
    wrong = {
        "is registered twice": known.name in REGISTRY,
        "has no docstring": not known.about,
        f"is known by {known.known_by!r}, which is no setting": known.known_by not in ("", *known.knobs),
        f"has {known.whole} for `whole`: allowed are its settings": any(
            name not in known.knobs for name, _ in known.whole
        ),
        f"has stage {known.stage}: allowed is {min(STAGES)} to {max(STAGES) + 99}": known.stage // 100 * 100
        not in STAGES,
        f"runs {known.runs!r}: allowed is one of {', '.join(RUNS)}": known.runs not in RUNS,
        f"has locality {known.locality!r}: allowed is one of {', '.join(LOCALITIES)}": known.locality
        not in LOCALITIES,
        "must take `progress` if it trains, and only then": takes_progress != known.trains,
        "must declare its cost if it trains, and only then": (known.cost is not None) != known.trains,
        "must say how an index answers if its locality is `ranked`, and only then": (known.ranked is not None)
        != (known.locality == "ranked"),
    }
    for words, is_wrong in wrong.items():
        if is_wrong:
            raise ValueError(f"technique {known.name!r} {words}")


def _read_signature(function: Callable[..., Any]) -> tuple[dict[str, Knob], dict[str, Any]]:
    hints = get_type_hints(function, include_extras=True)
    knobs: dict[str, Knob] = {}
    defaults: dict[str, Any] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if name in ("bundle", "data", "progress"):
            continue
        hint = hints[name]
        knob = get_args(hint)[1] if get_origin(hint) is Annotated else None
        if not isinstance(knob, Knob) or parameter.default is inspect.Parameter.empty:
            raise ValueError(
                f"{function.__name__}: setting {name!r} needs Annotated[type, Knob] and a default"
            )
        knobs[name] = knob
        defaults[name] = knob.check(name, parameter.default, None)
    return knobs, defaults


def get(name: str) -> Technique:
    """The technique called `name`. Raises SlimscopeError for a stranger."""
    if name not in REGISTRY:
        raise SlimscopeError(f"technique {shown(name)} is unknown; there are {', '.join(REGISTRY)}")
    return REGISTRY[name]


def step(name: str, /, **settings: Any) -> Step:
    """A complete, checked step.

    >>> import engine.techniques
    >>> step("prune_weights", sparsity=0.5).settings["allocation"]
    'global'
    """
    return Step(name, get(name).check(settings))


def complete(recipe: Recipe) -> Recipe:
    """The recipe with every default written and every setting checked, so that its key is canonical.

    Raises SlimscopeError for a stranger's name, a setting that is not allowed, or more than
    MOST_STEPS steps.
    """
    if len(recipe) > MOST_STEPS:
        raise SlimscopeError(f"the recipe has {len(recipe)} steps: allowed are at most {MOST_STEPS}")
    return Recipe(tuple(Step(s.technique, get(s.technique).check(s.settings), s.on) for s in recipe.steps))
