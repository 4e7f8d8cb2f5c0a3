"""Engine calls with a memory: the only place with a cache. Keys are strings, never tensors."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st
from torch import Tensor

from engine.data import user
from engine.data.sets import Data, Samples
from engine.figures import closeness, count, integer_only, measure, onnx_run, theory
from engine.figures import latency as variants
from engine.file import intake, packfile, recognise
from engine.jobs import as_json, curves, keys, layerwise, models, recipes, streaming, testset
from engine.jobs import fronts as every_front
from engine.net import incremental, kinds, sources, zoo
from engine.recipe import run, technique
from engine.tensor.histogram import HistogramIndex, index_of
from engine.tensor.index import Index
from engine.tensor.ranking import Pool
from engine.types import Bundle, Figure, Recipe, Report, SlimscopeError, weight_layers

UNKNOWN = "no known architecture fits these weights: they are compressed layer by layer, into their file"


FEW = 20  # samples that a large model may answer while a page waits
MOST_ON_INTEGERS = 500  # samples that a model answers twice in whole numbers, which no kernel makes fast


class Untrained(SlimscopeError):
    """A step must be trained before what follows can be shown; `recipe` ends in that step."""

    def __init__(self, recipe: Recipe) -> None:
        step = recipe.steps[-1]
        super().__init__(f"step {len(recipe)} ({step.technique}) is not trained yet")
        self.recipe = recipe


class Pending(SlimscopeError):
    """A large model is compressed as a whole by a job first; `recipe` says how far."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__("the whole model is compressed for this, in the background")
        self.recipe = recipe


def subject(model: str, spec: str) -> str:
    """What is looked at, as one cache key: a model id and the data it is judged by (may be empty)."""
    return f"{model}|{spec}"


def parts(subject: str) -> tuple[str, str]:
    """(model id, data spec) of a subject."""
    model, _, spec = subject.partition("|")
    return model, spec


@st.cache_resource(max_entries=8, show_spinner=False)
def original(subject: str) -> Bundle:
    """The uncompressed bundle: a file is bare weights until its visitor said what it is."""
    return models.get_model(*parts(subject))


@st.cache_resource(max_entries=4, show_spinner="Reading the data ...")
def images(subject: str) -> Data | None:
    """The data that the model is judged by; None for weights without an architecture."""
    return keys.read_data(parts(subject)[1])


def after(subject: str, key: str) -> tuple[Bundle, tuple[Report, ...]]:
    """The bundle after all live steps with one report each; only the last step is computed anew.

    Raises Untrained, Pending for a large model, or SlimscopeError with the number of the step in front;
    none is cached.
    """
    is_whole = is_large(subject) and Recipe.from_key(key).live.steps
    return _from_job(subject, key) if is_whole else _at_once(subject, key)


def untrained(subject: str, recipe: Recipe) -> tuple[int, ...]:
    """The positions of live steps that must be trained before what follows them can be shown."""
    found: list[int] = []
    if is_bare_and_large(subject):
        return ()  # nothing is trained on it
    for place, step in enumerate(recipe):
        if step.on and technique.get(step.technique).trains:
            through = Recipe(tuple(s for i, s in enumerate(recipe.steps[: place + 1]) if i not in found))
            try:
                after(subject, through.live.key)
            except Untrained:
                found.append(place)
            except SlimscopeError:
                continue  # what is wrong with it is said where it is shown
    return tuple(found)


def fits(subject: str, recipe: Recipe) -> bool:
    """Whether a recipe can be applied, trained or not; of a large model a job finds that out."""
    if is_large(subject):
        return True
    try:
        after(subject, recipe.live.key)
    except (Untrained, Pending):
        return True
    except SlimscopeError:
        return False
    return True


@st.cache_resource(max_entries=96, show_spinner=False)
def _at_once(subject: str, key: str) -> tuple[Bundle, tuple[Report, ...]]:
    live = Recipe.from_key(key).live
    if not live.steps:
        return original(subject), ()
    base, reports = after(subject, Recipe(live.steps[:-1]).key)
    step = live.steps[-1]
    known = technique.get(step.technique)
    try:
        if not known.trains:
            bundle, report = run.apply(base, step, images(subject))
            return bundle, (*reports, report)
        known.possible(base)
    except SlimscopeError as error:
        raise type(error)(f"step {len(live)} ({step.technique}): {error}") from error
    model, spec = parts(subject)
    found = recipes.trained(model, live, spec)
    if found is None:
        raise Untrained(live)
    return found[0], (*reports, found[1])


@st.cache_resource(max_entries=2, show_spinner="Reading the compressed model ...")
def _from_job(subject: str, key: str) -> tuple[Bundle, tuple[Report, ...]]:
    """What a job made of a large model; of a trained step that nothing follows, the last report only."""
    model, spec = parts(subject)
    live = Recipe.from_key(key).live
    if not spec:
        raise SlimscopeError(UNKNOWN)
    if (found := streaming.made(model, live, spec)) is not None:
        return found
    if technique.get(live.steps[-1].technique).trains:
        trained = recipes.trained(model, live, spec)
        if trained is not None:
            return trained[0], (trained[1],)
    raise _waiting(subject, key)


def _waiting(subject: str, key: str) -> Untrained | Pending:
    """Why a large model is not there yet after a recipe: a step is not trained, or a job is at it."""
    model, spec = parts(subject)
    live = Recipe.from_key(key).live
    missing = recipes.missing(model, live, spec) if spec else None
    return Pending(live) if missing is None else Untrained(missing.recipe)


@st.cache_resource(max_entries=16, show_spinner=False)
def index(subject: str, key: str, layers: tuple[str, ...]) -> Index:
    """The index of these layers' weights together, after a recipe: sorted, or coarse for many millions."""
    bundle = after(subject, key)[0]
    names = weight_layers(bundle)
    return index_of([bundle.params[names[label]].decode() for label in layers])


# ---------------------------------------------------------------- nets too large to be compressed whole


@st.cache_resource(show_spinner="Reading the weights ...")
def given() -> dict[str, dict[str, Any]]:
    """The models that this server was started with, for every visitor: model id -> title, notes, ..."""
    found = {}
    if user.named().model:
        found |= _about_user(sources.load_user())
    path = os.environ.get("SLIMSCOPE_WEIGHTS")
    if path:
        bundle, notes = intake.open_file(Path(path))
        about = {"title": Path(path).name, "notes": list(notes), "data": "", "arch": bundle.arch.name}
        found |= {models.put_path(bundle, Path(path)): about}
    return found


def _about_user(bundle: Bundle) -> dict[str, dict[str, Any]]:
    arch, data = bundle.arch, sources.data(bundle.arch)
    parts = [f"{len(part):,}" for part in (data.train, data.validation, data.test)]
    note = f"Your own code. Samples for training, validation and test: {', '.join(parts)}."
    about = {"title": arch.title, "notes": [note], "data": sources.task(arch), "arch": arch.name}
    return {f"user-{bundle.fingerprint}": about}


def reload_user() -> str:
    """Read the user's code again; its new model id. Raises SlimscopeError where that fails: all stays as it was."""
    bundle = sources.reload_user()
    st.cache_resource.clear()
    st.cache_data.clear()
    return f"user-{bundle.fingerprint}"


@st.cache_resource(max_entries=32, show_spinner=False)
def proposal(model: str) -> recognise.Proposal | None:
    """The model of the zoo that a visitor's file may be."""
    return recognise.propose(models.get_model(model))


@st.cache_resource(max_entries=32, show_spinner=False)
def course(subject: str, key: str, number: int, setting: str) -> curves.Course:
    """The curve along a setting of step `number` of a recipe, whose key has the setting at its default."""
    model, spec = parts(subject)
    return curves.course(model, Recipe.from_key(key), spec, number, setting)


def bytes_along(subject: str, recipe: Recipe, setting: str) -> dict[Any, int]:
    """Measured bytes of the recipe's file with other values of its last step's setting: those that are known."""
    if not parts(subject)[1]:
        return {}
    whole, number = technique.complete(recipe), len(recipe)
    of = course(subject, curves.normal(whole, number, setting).key, number, setting)
    rows = curves.known(of, whole.steps[-1].settings[setting])
    return {row["value"]: row["bytes"] for row in rows if row["bytes"] is not None}


def fronts(subject: str) -> tuple[curves.Course, ...]:
    """The curve of each technique by itself."""
    return _fronts(subject, tuple(technique.REGISTRY))


@st.cache_resource(max_entries=4, show_spinner=False)
def _fronts(subject: str, names: tuple[str, ...]) -> tuple[curves.Course, ...]:
    return every_front.courses(*parts(subject))


@st.cache_resource(max_entries=16, show_spinner=False)
def is_large(subject: str) -> bool:
    """Whether pages look at one layer at a time (`engine.jobs.layerwise`)."""
    return layerwise.is_large(original(subject))


def needs_whole(recipe: Recipe) -> bool:
    """Whether a step of the recipe acts on a model as a whole: one layer does not say what it does."""
    known = [technique.get(step.technique) for step in recipe.live]
    return any(each.locality == "model" or each.needs_model for each in known)


def base(subject: str, recipe: Recipe) -> Bundle:
    """The bundle whose layers a page names after these steps; of a large model the original, where that does."""
    is_original = is_bare_and_large(subject) or (is_large(subject) and not needs_whole(recipe))
    return original(subject) if is_original else after(subject, recipe.live.key)[0]


def is_bare_and_large(subject: str) -> bool:
    """Whether the layers are all that is known: nothing runs, and the whole is written by a job."""
    return is_large(subject) and not parts(subject)[1]


@st.cache_resource(max_entries=2, show_spinner="Indexing the weights, once ...")
def outlines(subject: str) -> dict[str, HistogramIndex]:
    """A coarse index of every layer of the original."""
    return {label: HistogramIndex([weight]) for label, weight in count.weights(original(subject))}


def pool(subject: str, layers: tuple[str, ...]) -> Index:
    """The index of one layer or several of a large model, as they were at first."""
    return pools(subject)(layers)


def pools(subject: str) -> Pool:
    """As `pool`, of any layers: the memory is asked once for all that are asked by themselves."""
    alone = outlines(subject)
    return lambda layers: alone[layers[0]] if len(layers) == 1 else index(subject, "[]", layers)


@st.cache_resource(max_entries=12, show_spinner=False)
def seen(subject: str, key: str, layer: str, whole: bool) -> tuple[Bundle, tuple[Report, ...]]:
    """As `after`, of one layer of a large model: of all its rows, or of some that stand for them.

    Raises SlimscopeError where a step can't be told from the layer alone.
    """
    live = Recipe.from_key(key).live
    if not live.steps:
        return layerwise.of_layer(original(subject), layer, None if whole else layerwise.SHOWN), ()
    before = Recipe(live.steps[:-1]).key
    base, reports = seen(subject, before, layer, whole)
    if needs_whole(live):
        raise SlimscopeError("this step acts on the model as a whole")
    labels = list(weight_layers(original(subject)))
    try:
        ranked = layerwise.alone(base) if before != "[]" else functools.partial(pool, subject)
        bundle, report = layerwise.apply(base, live.steps[-1], labels, ranked)
    except SlimscopeError as error:
        raise type(error)(f"step {len(live)} ({live.steps[-1].technique}): {error}") from error
    return bundle, (*reports, report)


@st.cache_data(max_entries=64, show_spinner=False)
def answer(question: str, _work: Callable[[], dict[str, Any] | None]) -> dict[str, Any] | None:
    """What `_work` gives for a question: a fragment and a browser that ask the same at once share it."""
    return _work()


def written(subject: str, key: str) -> tuple[dict[str, Figure], dict[str, int], Path] | None:
    """Figures by name, bytes of each tensor, and the file of a large model, once a job wrote it."""
    model, spec = parts(subject)
    return streaming.written(model, Recipe.from_key(key), spec)


def _told(subject: str, key: str) -> dict[str, Figure]:
    """The figures of a large model's file. Raises Untrained, or Pending before a job wrote it."""
    found = written(subject, key)
    if found is None:
        raise _waiting(subject, key)
    return found[0]


def size(subject: str, key: str) -> Figure:
    """Bytes of the real packed file: written, read back and compared. Raises Pending."""
    return _told(subject, key)["file size"] if is_large(subject) else _size(subject, key)


@st.cache_data(max_entries=512, show_spinner=False)
def _size(subject: str, key: str) -> Figure:
    return packfile.size(after(subject, key)[0])


@st.cache_data(max_entries=64, show_spinner=False)
def ledger(subject: str, key: str) -> list[Figure]:
    """Every way to count the size, in reading order."""
    return theory.ledger(after(subject, key)[0])


def counted(subject: str, key: str) -> dict[str, Figure]:
    """Sparsity, parameters and non-zeros by name. Raises Pending."""
    is_told = is_large(subject) and Recipe.from_key(key).live.steps
    return _told(subject, key) if is_told else _counted(subject, key)


@st.cache_data(max_entries=512, show_spinner=False)
def _counted(subject: str, key: str) -> dict[str, Figure]:
    bundle = after(subject, key)[0]
    return {f.name: f for f in (count.sparsity(bundle), count.parameters(bundle), count.nonzeros(bundle))}


@st.cache_data(max_entries=512, show_spinner=False)
def macs(subject: str, key: str) -> Figure:
    """Multiply-adds for one input. Raises SlimscopeError where they can't be counted."""
    return count.macs(after(subject, key)[0])


@st.cache_data(max_entries=16, show_spinner=False)
def dense_bytes(subject: str) -> Figure:
    """The original as a dense 32-bit safetensors file: what every ratio is against."""
    return theory.dense_file(original(subject))


@st.cache_data(max_entries=16, show_spinner=False)
def sample_size(subject: str) -> int:
    """How many test samples are measured at once under the slider."""
    return measure.sample_size(original(subject))


@st.cache_resource(max_entries=8, show_spinner=False)
def _sample(subject: str, n: int) -> tuple[Samples, list[incremental.Trace]]:
    """The sample, and the latest run over it."""
    held = images(subject)
    assert held is not None
    return held.test.stratified(n), []


def sample(subject: str, n: int) -> Samples:
    """The fixed stratified sample of the test set."""
    return _sample(subject, n)[0]


@st.cache_resource(max_entries=48, show_spinner=False)
def answers(subject: str, key: str, n: int) -> Tensor:
    """Predicted classes (n,) on the sample: layers before the first that differs are not run again."""
    looked_at, latest = _sample(subject, n)
    found, trace = incremental.logits(after(subject, key)[0], looked_at, *latest[:1])
    latest[:] = [trace]
    return found.argmax(1)


def answers_so_far(subject: str, key: str) -> tuple[Samples, Tensor, Tensor] | None:
    """Samples of the test set, and the classes that the original and this model give to them.

    All of the test set once a job has measured it; before that the sample, or None for a large model.
    """
    held = images(subject)
    assert held is not None
    n = len(held.test) if is_large(subject) else sample_size(subject)
    if (n < len(held.test) or is_large(subject)) and (everything := answers_of_all(subject, key)):
        return held.test, *everything
    return (
        None
        if is_large(subject)
        else (sample(subject, n), answers(subject, "[]", n), answers(subject, key, n))
    )


def labels(subject: str, n: int) -> Tensor:
    """True classes (n,) of the same sample."""
    return sample(subject, n).labels


def accuracy(subject: str, key: str, n: int) -> tuple[Figure, Figure]:
    """(accuracy, paired difference to the original) on n test samples."""
    now, truth = answers(subject, key, n), labels(subject, n)
    return measure.accuracy_of(now, truth), measure.paired_difference(answers(subject, "[]", n), now, truth)


@st.cache_data(max_entries=128, show_spinner=False)
def latency(subject: str, key: str, batch: int) -> tuple[variants.Row, ...]:
    """The original and every form of this model, timed side by side on this machine."""
    return variants.latency(original(subject), after(subject, key)[0], batch)


@st.cache_data(max_entries=128, show_spinner=False)
def latency_takes(subject: str, key: str, batch: int) -> Figure:
    """About how many seconds `latency` needs."""
    return variants.seconds(original(subject), after(subject, key)[0], batch)


def looked_at(subject: str) -> Samples:
    """The samples of the test set that a model answers while a page waits."""
    return sample(subject, FEW if is_large(subject) else sample_size(subject))


@st.cache_data(max_entries=16, show_spinner=False)
def as_onnx(subject: str, key: str) -> onnx_run.Tried:
    """The model as an ONNX file, run and timed on this machine. Raises SlimscopeError where it can't be one."""
    return onnx_run.tried(original(subject), after(subject, key)[0], looked_at(subject))


@st.cache_data(max_entries=16, show_spinner=False)
def on_integers(subject: str, key: str) -> integer_only.Compared:
    """The model on integers alone beside the simulated one. Raises SlimscopeError where it can't run so."""
    n = FEW if is_large(subject) else min(sample_size(subject), MOST_ON_INTEGERS)
    return integer_only.compared(after(subject, key)[0], sample(subject, n))


def card(model: str) -> dict[str, object]:
    """The model card of a zoo model; empty for the user's own."""
    return zoo.card(model) if model in zoo.ENTRIES else {}


@st.cache_data(max_entries=16, show_spinner=False)
def classes(subject: str) -> tuple[str, ...]:
    """Names of the classes; outputs that no sample of the data has are numbers."""
    held = images(subject)
    if held is None:
        return ()
    outputs = measure.logits(zoo.build(original(subject)), held.test.take(slice(0, 1))).shape[1]
    return (*held.classes, *map(str, range(len(held.classes), outputs)))


@st.cache_data(max_entries=64, show_spinner=False)
def where(subject: str, key: str, is_written: bool = True) -> pd.DataFrame:
    """Bytes of the packed file: columns layer, part, bytes; the rows add up to the file.

    Of a large model whose file is not written: bytes of the original's numbers.
    """
    if is_large(subject):
        found = written(subject, key) if is_written else None
        sizes = (
            found[1] if found else {n: 4 * math.prod(p.shape) for n, p in original(subject).params.items()}
        )
        rows = pd.DataFrame({"name": list(sizes), "bytes": list(sizes.values()), "part": ""})
    else:
        rows = packfile.sections(after(subject, key)[0]).rename(columns={"tensor": "name"})
    layer, _, leaf = zip(*(name.rpartition(".") for name in rows["name"]), strict=True)
    rows["layer"] = [whole or own for whole, own in zip(layer, leaf, strict=True)]
    rows["part"] = [
        f"{own} {part}" if whole else part for whole, own, part in zip(layer, leaf, rows["part"], strict=True)
    ]
    return rows[["layer", "part", "bytes"]]


@st.cache_data(max_entries=64, show_spinner=False)
def layers(subject: str, key: str, is_written: bool = True) -> pd.DataFrame:
    """One row per weight: layer, shape, how many, zeros, dense and packed bytes, type, output, MACs.

    Of a large model: the original's, and packed bytes where its file is written. MACs are left out where
    `uncounted` says why.
    """
    if is_large(subject):
        bundle, found = original(subject), written(subject, key) if is_written else None
        packed = pd.Series(found[1] if found else {}, dtype="float64")
    else:
        bundle = after(subject, key)[0]
        packed = packfile.sections(bundle).groupby("tensor")["bytes"].sum()
    rows = []
    for label, name in weight_layers(bundle).items():
        weight = bundle.params[name].decode()
        rows.append(
            {
                "layer": label,
                "shape": " x ".join(map(str, weight.shape)),
                "weights": weight.numel(),
                "sparsity": 1 - int(weight.count_nonzero()) / weight.numel(),
                "dense bytes": 4 * weight.numel(),
                "packed bytes": packed.get(name),
            }
        )
    table = pd.DataFrame(rows)
    try:
        counted = kinds.weight_table(bundle)
    except SlimscopeError:  # without a known architecture, or with a layer of an unknown kind
        return table
    # What the model's own code only adds is in no layer.
    used = counted.reindex(list(weight_layers(bundle).values())).reset_index(drop=True)
    return pd.concat(
        [table, used.fillna({"type": "", "output": "", "macs": 0}).astype({"macs": int})], axis=1
    )


@st.cache_data(max_entries=64, show_spinner=False)
def relative_errors(subject: str, key: str) -> dict[str, float]:
    """How far each layer's weights are from the original's (`engine.figures.closeness`)."""
    return closeness.relative_errors(after(subject, key)[0])


@st.cache_data(max_entries=64, show_spinner=False)
def uncounted(subject: str, key: str) -> str:
    """Which multiply-adds the rows of `layers` can't or don't say, in a sentence; nothing where all are there."""
    bundle = original(subject) if is_large(subject) else after(subject, key)[0]
    if not bundle.arch.runs:
        return ""
    try:
        used = kinds.weight_table(bundle)["macs"]
    except SlimscopeError as error:
        return f"Multiply-adds are not counted: {error}."
    between = int(used.get(kinds.BETWEEN, 0))
    return (
        f"{between:,} more MACs multiply two activations (attention): no weight is in them."
        if between
        else ""
    )


@st.cache_data(max_entries=8, show_spinner=False)
def least_certain(subject: str, among: int = 500) -> list[int]:
    """Row numbers of the first `among` test samples, where the original hesitates most first.

    Of a large model FEW.
    """
    held = images(subject)
    assert held is not None
    among = FEW if is_large(subject) else among
    shares = measure.logits(zoo.build(original(subject)), held.test.take(slice(0, among))).softmax(1)
    return [int(i) for i in shares.max(1).values.argsort()]


def full_accuracy(subject: str, key: str) -> tuple[Figure, Figure] | None:
    """(accuracy, paired difference) on the whole test set, once a job has measured it."""
    model, spec = parts(subject)
    found = testset.full_accuracy(model, Recipe.from_key(key), spec)
    if found is None:
        return None
    now, change = (as_json.figure_of(figure) for figure in found["figures"])
    return now, change


def origin_accuracy(subject: str) -> Figure | None:
    """The original's accuracy on the whole test set, where it is known: its model card's, or a job's."""
    found = card(parts(subject)[0]).get("test accuracy")
    if isinstance(found, dict):
        return as_json.figure_of(found)
    measured = full_accuracy(subject, "[]")
    return None if measured is None else measured[0]


def answers_of_all(subject: str, key: str) -> tuple[Tensor, Tensor] | None:
    """Predicted classes of the original and of this model on the whole test set, once a job has measured them."""
    model, spec = parts(subject)
    found = [testset.answers(model, Recipe.from_key(text), spec) for text in ("[]", key)]
    return None if found[0] is None or found[1] is None else (found[0], found[1])
