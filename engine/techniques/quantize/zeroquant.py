"""ZeroQuant: scales for groups of weights and for each token, and block after block learns what it gave."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any

import pandas as pd
import torch
from torch import Tensor

from engine.data.samples import SPLIT_SEED
from engine.data.sets import Data
from engine.figures import measure, reports, rounding, training
from engine.net import blocks, rounded_inputs, zoo
from engine.net.block_learning import Tutor, learn_block
from engine.net.random_inputs import random_inputs
from engine.net.train import Plan
from engine.recipe import settings
from engine.recipe.knobs import Choice
from engine.recipe.technique import Cost, technique
from engine.tensor import grids
from engine.tensor.granularity import named
from engine.types import Bundle, Progress, Report, weight_layers

CHECKED = 5  # one sample of so many is not learned from
BITS = settings.trained_bits("Bits", "Width of a weight's code.")
LAYER_COLUMNS = (*rounding.COLUMNS[:2], "block", *rounding.COLUMNS[2:])
BLOCK_COLUMNS = ("block", "layers", "samples", "error_nearest", "error_learned")
LOSS_COLUMNS = ("block", "epoch", "loss")
LEARNED_FROM = {"training": "training samples", "random": "random inputs"}
ERRORS = {"error_nearest": "output error, nearest", "error_learned": "output error, learned"}


@technique(
    family="quantize",
    title="ZeroQuant",
    reference="Yao et al. 2022, ZeroQuant: Efficient and Affordable Post-Training Quantization for "
    "Large-Scale Transformers, arXiv 2206.01861",
    stage=711,
    runs="trains",
    cost=lambda chosen: Cost(2 * chosen["epochs"] + 2, images=chosen["samples"]),
    locality="model",
    tables={
        "blocks": BLOCK_COLUMNS,
        "losses": LOSS_COLUMNS,
        "layers": LAYER_COLUMNS,
        "activations": rounded_inputs.COLUMNS,
    },
    aha="Nobody has to train the whole model again: each block learns alone to give what it gave before, "
    "from what the rounded blocks before it send. One block is in memory at a time, and random inputs do.",
    trap="At 8 bits there is nothing to win back, and on a small test set a gain of a point may be chance: "
    "look at the interval, and at 2 bits.",
    presets={
        "gentle": {"bits": 8, "epochs": 1},
        "balanced": {},
        "extreme": {"bits": 2, "epochs": 20},
    },
)
def zeroquant(
    bundle: Bundle,
    data: Data,
    *,
    bits: Annotated[int, BITS] = 4,
    granularity: settings.ScaleGranularity = "group",
    group: settings.GroupSize = 64,
    range: Annotated[
        str, settings.fitted_range("Which values the grids span before their steps are learned.")
    ] = "minmax",
    activations: settings.RoundInputs = True,
    activation_bits: settings.InputBits = 8,
    learn_from: Annotated[
        str,
        Choice(
            label="Learn from",
            help="What is sent through the model while its blocks learn; labels are never looked at.",
            options={
                "training": "training samples",
                "random": "random inputs: word pieces drawn at random, or noise. No data are needed",
            },
        ),
    ] = "training",
    goal: Annotated[
        str,
        Choice(
            label="Goal",
            help="What a block is to give.",
            options={
                "block": "what the block gave before for the same inputs, which come from rounded blocks",
                "model": "what it gave in the model before: it mends errors of blocks before it as well",
            },
            advanced=True,
        ),
    ] = "block",
    samples: Annotated[int, settings.samples("How many samples blocks learn from.")] = 1000,
    epochs: Annotated[int, settings.epochs("How often each block sees them.", high=50)] = 5,
    learning_rate: Annotated[float, settings.adam_rate("a block")] = 0.001,
    per_layer: Annotated[
        Mapping[str, int],
        settings.per_layer(BITS, "Own bits", "Layers whose weights have a bit width of their own."),
    ] = settings.NONE,
    leave_out: Annotated[
        Sequence[str], settings.leave_out("Layers whose weights stay floats; they learn with their block.")
    ] = (),
    seed: Annotated[int, settings.seed("Fixes which samples are drawn, and their order.")] = 0,
    progress: Progress,
) -> tuple[Bundle, Report]:
    """Round weights in groups and inputs per token, and let block after block learn to give what it gave.

    A block is an encoder, a residual block, or a layer that is in none. Its weights (straight-through), their
    step sizes, biases and normalisation learn by Adam on the mean squared error of its outputs; blocks before
    it are rounded already, and one that got worse stays rounded to nearest. Symmetric levels; exact zeros
    stay exact zeros. What is not given floats (embeddings), and what is called twice or never, is rounded to
    nearest. Raises Cancelled through `progress`.
    """
    names = {label: name for label, name in weight_layers(bundle).items() if label not in leave_out}
    images = _images(bundle, data, learn_from, samples, seed)
    rounded = {
        name: grids.quantize(
            bundle.params[name].decode(), per_layer.get(label, bits), True, named(granularity, group), range
        )
        for label, name in names.items()
    }
    nearest, inputs, floats = bundle.become({**bundle.params, **rounded}), None, list[str]()
    if activations:
        plan = rounded_inputs.Plan(activation_bits, True, True, "minmax", 100.0, True, len(images))
        nearest, inputs, floats = rounded_inputs.calibrated(nearest, images, names, plan)
    shuffled = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    is_held = torch.arange(len(images)) % CHECKED == 0
    adam = Plan(epochs, learning_rate, "adam", schedule="cosine", weight_decay=0.0, seed=seed)
    tutor = Tutor(images, shuffled[~is_held], shuffled[is_held], adam, goal == "model")
    after, tables, worse = _learn(bundle, nearest, names, tutor, progress)
    tables["layers"] = _layers(bundle, after, names, tables["blocks"]["block"])
    if inputs is not None:
        tables["activations"] = inputs
    untrained = replace(
        measure.accuracy(nearest, data.validation), name="validation accuracy, rounded and not trained"
    )
    figures = (
        *training.change(bundle, after, data.validation),
        untrained,
        *reports.output_errors(tables["blocks"], ERRORS, _how),
        *rounding.figures(tables["layers"]),
    )
    alone = tables["layers"].loc[tables["layers"]["block"] == "", "layer"]
    notes = (
        f"Learned from {len(tutor.rows):,} {LEARNED_FROM[learn_from]}, errors measured on "
        f"{len(tutor.held):,} others.",
        *reports.named("Rounded to nearest, nothing learned:", alone),
        *reports.named("Learning made these worse, so they stay rounded to nearest:", worse),
        *reports.named("What enters these layers stays 32-bit floats:", filter(None, floats)),
        *reports.named("Left out:", leave_out),
    )
    return after, Report(figures, tables, notes)


def _learn(
    before: Bundle, nearest: Bundle, names: Mapping[str, str], tutor: Tutor, progress: Progress
) -> tuple[Bundle, dict[str, pd.DataFrame], list[str]]:
    """The model with every block learned that can, in their order; tables; and blocks that got worse."""
    free = [name for name in names.values() if name not in {*before.arch.ties, *before.arch.ties.values()}]
    known = blocks.blocks(zoo.skeleton(before.arch), free)
    order = blocks.called_once(zoo.fork(before).eval(), known, tutor.inputs[:2])
    now, rows, losses, worse = nearest, list[tuple[Any, ...]](), list[tuple[Any, ...]](), list[str]()
    for number, block in enumerate(order):
        later = training.later(number * tutor.plan.epochs)
        share = progress.part(number / len(order), (number + 1) / len(order), later)
        path = progress.checkpoint(f"block-{number}")
        done = learn_block(before, now, block, known[block], tutor, share, path)
        now = done.bundle
        worse += [block] * done.worse
        rows.append((block, len(known[block]), len(tutor.rows), done.error_before, done.error_after))
        losses += [(block, row["epoch"], row["loss"]) for row in done.losses]
    tables = {
        "blocks": pd.DataFrame(rows, columns=BLOCK_COLUMNS),
        "losses": pd.DataFrame(losses, columns=LOSS_COLUMNS),
    }
    return now, tables, worse


def _images(bundle: Bundle, data: Data, source: str, samples: int, seed: int) -> Tensor:
    """What is sent through the model: (samples, ...)."""
    if source == "random":
        return random_inputs(bundle, data.train, samples, seed)
    return data.train.stratified(samples, SPLIT_SEED + seed).inputs()


def _layers(before: Bundle, after: Bundle, names: Mapping[str, str], learned: Iterable[str]) -> pd.DataFrame:
    """A row for each layer; `block` is empty where nothing learned."""
    inside = blocks.blocks(zoo.skeleton(before.arch), names.values())
    block_of = {name: block for block, weights in inside.items() for name in weights if block in {*learned}}
    said = {label: {"block": block_of.get(name, "")} for label, name in names.items()}
    return rounding.table(before, after, names, said, LAYER_COLUMNS)


def _how(worst: pd.Series) -> str:
    return (
        f"norm of (outputs - goal) / norm of the goal, of {worst['block']}, where rounding to nearest is "
        "worst: on samples that nothing was learned from"
    )
