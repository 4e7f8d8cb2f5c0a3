"""The chosen layer on low rank's page: its decomposition, where its ranks are, and what that teaches."""

from __future__ import annotations

from html import escape

from engine.net import low_rank
from engine.net.low_rank import How, Layer
from engine.tensor import factors
from engine.tensor.splits import Ranks, Split, Triple
from pages.parts import cached, charts, figures
from pages.parts.lesson import Lesson
from pages.parts.live import Marks, Scene
from pages.parts.pictures import surface


def found(scene: Scene) -> Layer:
    """The chosen layer with its decomposition, whether or not the step leaves it alone."""
    chosen = scene.step.settings
    how = How(chosen["form"], chosen["error"], chosen["samples"])
    # Weights without a model, and layers of a large one, have no outputs: the step has said so before.
    return low_rank.layer_of(scene.before, cached.images(scene.subject), scene.layer, how)


def split_of(scene: Scene) -> Split:
    """How the chosen layer is split, or would be."""
    split = found(scene).split
    assert split is not None
    return split


def rank_marks(scene: Scene, split: Split, ranks: Ranks) -> Marks:
    """The point on Tucker's surface; or the cut through the spectrum, and the dot below or above break-even."""
    whole = scene.weight.numel()
    if isinstance(split, Triple):
        return {surface.KEY: [surface.mark(split, ranks, scene.layer)]}
    (rank,), even, weights = ranks, factors.break_even(split.shape, split.form), split.weights(ranks)
    saves = weights < whole
    words = "smaller" if saves else "no smaller, so it is not split"
    kept = f"rank {rank}: {100 * split.kept(ranks):.2f} % of the energy"
    beyond = {"kind": "band", "from": rank + 0.5, "to": split.full[0] + 2, "colour": charts.REMOVED}
    cut = {"kind": "line", "at": rank + 0.5, "colour": charts.REMOVED, "text": kept, "top": 32}
    limit = {"kind": "line", "at": even, "colour": charts.ORIGINAL, "dash": "5 4", "top": 16}
    here = {
        "kind": "dot",
        "x": rank,
        "y": weights,
        "colour": charts.KEPT if saves else charts.REMOVED,
        "text": f"rank {rank}: {words}",
    }
    return {"spectrum": [beyond, cut], "cost": [{**limit, "text": f"break-even at {even:.1f}"}, here]}


def lesson(scene: Scene, ranks: Ranks | None) -> Lesson:
    """How much of its ranks the layer needs, and whether thin layers are bigger: both counts of weights."""
    split, whole = split_of(scene), scene.weight.numel()
    saves = ranks is None or split.weights(ranks) < whole
    cost, word = "", "fewer" if saves else "not fewer, so it stays whole"
    if ranks is not None:
        cost = f" Here they have {split.weights(ranks):,} weights, {scene.layer} has {whole:,}: {word}."
    if isinstance(split, Triple):
        need, most = split.for_energy(0.9), split.full
        return Lesson(
            f"Kernels share channels: {scene.layer} keeps 90 % of its sum of squares in a core of {need[0]} of {most[0]} "
            f"outputs and {need[1]} of {most[1]} inputs.",
            f"Above the break-even line three layers are bigger than one, and each is a call of its own.{cost}",
            not saves,
        )
    even, (need,) = factors.break_even(split.shape, split.form), split.for_energy(0.9)
    squares = "squared outputs" if found(scene).outputs is not None else "squares"
    return Lesson(
        f"Nets are less low-rank than photos: {scene.layer} needs {need} of its {split.full[0]} pieces for 90 % of its sum of "
        f"{squares}. A cut through a flat spectrum loses much.",
        f"Above rank {even:.1f}, mn / (m + n), two thin layers are bigger than the one they replace.{cost}",
        not saves,
    )


TRIED = {
    "rank": figures.Column("rank"),
    "input_rank": figures.Column("of inputs"),
    "weights": figures.Column("weights"),
    "share": figures.Column("of the layer", "share"),
    "kl_alone": figures.Column("KL, split alone", "nat"),
}


def tried(scene: Scene) -> str:
    """What the chosen layer loses alone at each rank that was tried, and whether the losses added up; or nothing."""
    table = scene.report.tables.get("tried")
    if table is None:
        return ""
    rows = table[table["layer"] == scene.layer]
    if "input_rank" in rows and rows["input_rank"].isna().all():
        rows = rows.drop(columns="input_rank")
    columns = {name: own for name, own in TRIED.items() if name in rows}
    found = {figure.name: figure for figure in scene.report.figures}
    told = {name: figures.text(figure.value, "nat") for name, figure in found.items() if "KL" in name}
    summed = told.get("predicted KL of the outputs", "")
    words = (
        f"{f'Alone they add up to {summed}, all' if summed else 'All'} layers together change the answers by "
        f"{told['KL of the outputs']}. The same budget dealt out by energy: {told['KL of the outputs at the ranks by energy']}. "
        f"KL from the answers before, {found['KL of the outputs'].how.partition('; ')[0].partition(', ')[2]}."
    )
    title = f"<p><b>{escape(f'What {scene.layer} loses alone, at the ranks that were tried')}</b></p>"
    return title + figures.table(rows, columns) + figures.caption(words)
