"""Search for a design: many cheaper copies of a model are trained, and the best in a budget stays."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any

import pandas as pd

from engine.data.sets import Data
from engine.figures import count, design_search, measure, reports, students, training
from engine.figures.design_search import Tried
from engine.file import packfile
from engine.net import designing, zoo
from engine.net.designing import Blueprint
from engine.net.narrower import bundle_of, fresh
from engine.net.train import learning_from
from engine.recipe import settings
from engine.recipe.knobs import Choice, Slider
from engine.recipe.settings import of_students
from engine.recipe.technique import Cost, technique
from engine.types import Arch, Basis, Bundle, Figure, Progress, Report, SlimscopeError

DESIGNS = (
    "design",
    "by_hand",
    "first_width",
    "middle_width",
    "last_width",
    "convolutions",
    "groups",
    "expansion",
    "replaced",
    "depth",
    "resolution",
    "smaller_kernels",
    "parameters",
    "macs",
    "bytes",
    "share_of_time",
    "milliseconds",
    "epochs",
    "accuracy",
    "on_front",
    "chosen",
)


def _possible(bundle: Bundle) -> None:
    designing.possible(bundle)
    count.macs(bundle)  # a model's that can't be counted can't be compared, either
    if design_search.why_not():
        raise SlimscopeError(design_search.why_not())


@technique(
    family="compact",
    title="Search for a design",
    reference="Jamieson, Talwalkar 2016, Non-stochastic Best Arm Identification, arXiv 1502.07943; Ozaki et "
    "al. 2020, Multiobjective Tree-Structured Parzen Estimator, GECCO",
    stage=102,
    runs="trains",
    cost=lambda chosen: Cost(
        math.ceil(sum(design_search.passes(chosen["designs"], chosen["epochs"]))), images=chosen["subset"]
    ),
    locality="model",
    tables={"designs": DESIGNS, "curve": ("epoch", "loss", "train accuracy", "validation accuracy")},
    presets={
        "gentle": {"budget": 0.5},
        "balanced": {"budget": 0.25},
        "extreme": {"budget": 0.05},
    },
    possible=_possible,
    known_by="budget",
    aha="Most designs of a budget are far from the best, and a short training tells which: two in three are "
    "dropped after each round, and only the rest is trained for longer.",
    trap="The winner was chosen on validation samples, from many: its accuracy there is a little flattered. "
    "What a test set says of it is the measured tile.",
)
def search_design(
    bundle: Bundle,
    data: Data,
    *,
    budget: Annotated[
        float,
        Slider(
            low=0.02,
            high=1.0,
            scale="log",
            unit="share of the model's",
            percent=True,
            label="Budget",
            help="How much of the model's bytes, or of its time, a design may take at most.",
        ),
    ] = 0.25,
    limit: Annotated[
        str,
        Choice(
            label="Budget of",
            help="What is limited.",
            options={
                "bytes": "bytes of the file",
                "time": "time for one input in ONNX Runtime, measured on this machine",
            },
        ),
    ] = "bytes",
    designs: Annotated[
        int,
        Slider(
            low=2,
            high=200,
            whole=True,
            unit="designs",
            label="Designs",
            help="How many are trained in the first round; the better third goes on to the next.",
        ),
    ] = 40,
    epochs: Annotated[
        int,
        Slider(
            low=1,
            high=81,
            whole=True,
            unit="epochs",
            label="Epochs",
            help="Of the last round: those before it have a third and a ninth of them.",
        ),
    ] = 9,
    learning_rate: Annotated[float, settings.adam_rate()] = 0.01,
    subset: of_students.Samples = 10_000,
    temperature: settings.AdvancedTemperature = 4.0,
    alpha: settings.AdvancedTeacherShare = 0.7,
    seed: Annotated[int, of_students.seed("proposals and first weights")] = 0,
    progress: Progress,
) -> tuple[Bundle, Report]:
    """Replaces the model by the design of it that is most often right within a budget.

    A design has a share of the channels of each third of the model, of its layers and blocks that can be
    skipped, and of its images' height and width; cheaper convolutions or its own, and smaller kernels or not.
    Four usual ones come first, then a Parzen estimator of two goals proposes others. All learn from random
    first weights by the answers of the model so far (Adam, batch 128, one-cycle). Successive halving: of
    each round the better third, front after front of cost and validation accuracy, is trained anew for three
    times the epochs, and so are the usual ones, to compare with. Of the last round the most accurate is
    taken. Raises SlimscopeError where the model has no channels that can go, where no design keeps to the
    budget or Optuna is missing, and Cancelled through `progress`.
    """
    _possible(bundle)
    fresh(designing.drawn(bundle, Blueprint((0.5, 0.5, 0.5))), seed)  # fails where no first values are known
    teacher = zoo.fork(bundle).eval().requires_grad_(False)
    seen = replace(data, train=data.train.stratified(subset, seed))
    plans = [students.plan(each, learning_rate, seed) for each in design_search.rounds(epochs)]
    weights = design_search.passes(designs, epochs)
    made, curves, rows = dict[int, Bundle](), dict[int, pd.DataFrame](), dict[int, dict[str, Any]]()

    def train(tried: Tried, number: int, low: float, high: float) -> float:
        net, plan = fresh(tried.arch, seed), plans[number]
        begun, done = ((sum(weights[:number]) + x * weights[number]) / sum(weights) for x in (low, high))
        curve = training.tune(
            net,
            seen,
            plan,
            progress,
            f"{hashlib.sha256(tried.arch.key.encode()).hexdigest()[:16]}-{plan.epochs}",
            told=progress.part(begun, done, lambda row: None),
            loss=learning_from(teacher, temperature, alpha),
            masks={},
            digits=0,
        )
        made[tried.number], curves[tried.number] = bundle_of(tried.arch, net), training.curve(curve)
        tried.epochs, tried.accuracy = plan.epochs, measure.right(made[tried.number], data.validation)
        rows[tried.number] = _row(tried, made[tried.number], costs[tried.arch.key])
        if limit == "bytes":  # numbers that were trained are longer than the first ones
            tried.cost = rows[tried.number]["bytes"]
        progress(done, _live(rows[tried.number]))
        return tried.accuracy

    costs, found = _Costs(bundle, limit, progress), list[Tried]()

    def cost(arch: Arch) -> float:
        progress(weights[0] / sum(weights) * len(found) / designs)
        return costs[arch.key][0]

    for tried, tell in design_search.proposals(bundle, designs, budget, cost, seed):
        tell(train(tried, 0, len(found) / designs, (len(found) + 1) / designs))
        found.append(tried)
    whole = cost(bundle.arch)
    left = [one for one in found if one.cost <= budget * whole]
    if not left:
        known = [*(own for key, (own, _) in costs.items() if key != bundle.arch.key), whole]
        least = min([one.cost for one in found] or known)
        raise SlimscopeError(
            f"budget is {budget:.3g} of {zoo.title(bundle.arch)}: the smallest design that was found takes "
            f"{least / whole:.3g}"
        )
    for number in range(1, len(plans)):
        left = design_search.next_round(left, design_search.going_on(len(found), number))
        for place, tried in enumerate(left):
            train(tried, number, place / len(left), (place + 1) / len(left))
    fits = [one for one in left if one.cost <= budget * whole] or left
    best = max(fits, key=lambda one: (one.accuracy, -one.cost))
    after = bundle.become(made[best.number].params, best.arch)
    figures = (
        *training.change(bundle, after, data.validation),
        *reports.costs(bundle, after),
        Figure("designs tried", len(found), "designs", Basis.COUNTED, "trained for at least one round"),
    )
    front = [one.number for one in design_search.front(left)]
    last = [{"on_front": number in front, "chosen": number == best.number} for number in rows]
    table = pd.DataFrame([{**row, **ends} for row, ends in zip(rows.values(), last, strict=True)])
    tables = {"designs": table[list(DESIGNS)], "curve": curves[best.number]}
    return after, Report(figures, tables, (reports.trained_on(seen),))


class _Costs(dict[str, tuple[float, float | None]]):
    """Key of a design -> its bytes before training, or its time over the model's and in milliseconds.

    A time that was measured is kept beside the checkpoints: measured again it would be another.
    """

    def __init__(self, bundle: Bundle, limit: str, progress: Progress) -> None:
        super().__init__({bundle.arch.key: (1.0, None)} if limit == "time" else {})
        self.bundle, self.limit = bundle, limit
        kept = progress.checkpoint("costs")
        self.file = None if kept is None or limit == "bytes" else kept.with_suffix(".json")
        if self.file is not None and self.file.exists():
            self.update({key: tuple(own) for key, own in json.loads(self.file.read_text()).items()})

    def __missing__(self, key: str) -> tuple[float, float | None]:
        arch = Arch.from_key(key)
        net = self.bundle if key == self.bundle.arch.key else bundle_of(arch, fresh(arch, 0))
        bytes_alone = self.limit == "bytes"
        self[key] = (packfile.size(net).value, None) if bytes_alone else design_search.timed(self.bundle, net)
        if self.file is not None:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            partial = self.file.with_suffix(".partial")
            partial.write_text(json.dumps(self))
            partial.replace(self.file)
        return self[key]


def _row(one: Tried, own: Bundle, cost: tuple[float, float | None]) -> dict[str, Any]:
    """What is known of a design that was trained: DESIGNS but for the last two."""
    wanted = one.blueprint.convolutions
    replaced, smaller = (
        sum(verb == each for verb, _ in one.arch.edits) for each in ("replace_conv", "shrink_kernel")
    )
    size = (one.blueprint.depth, one.blueprint.resolution, smaller)
    form = (*one.blueprint.widths, wanted.name, wanted.groups, wanted.expansion, replaced, *size)
    share, time = (None, None) if cost[1] is None else cost
    costs = (count.parameters(own).value, count.macs(own).value, packfile.size(own).value, share, time)
    told = (one.number, one.by_hand, *form, *costs, one.epochs, one.accuracy)
    return dict(zip(DESIGNS, told, strict=False))


def _live(row: Mapping[str, Any]) -> dict[str, float]:
    """The same in numbers alone, as a live series has them."""
    numbers = {name: float(value) for name, value in row.items() if isinstance(value, int | float)}
    return {**numbers, "kind": float(design_search.CONVOLUTIONS.index(row["convolutions"]))}
