"""Han 2016, Deep Compression: LeNet-300-100 in a 40 times smaller file, LeNet-5 in 39, at no more error."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from engine.data import sets
from engine.figures import measure, theory
from engine.file import packfile
from engine.net import zoo
from engine.papers import han, harness
from engine.papers.harness import Claim, Ours, Outcome, Paper
from engine.recipe import technique
from engine.recipe.run import apply
from engine.tensor import codes
from engine.tensor.formats import Codebook
from engine.tensor.formats.bits import FLOAT
from engine.tensor.relative import FILLER, huffman_bits, relative
from engine.types import Bundle, Progress, weight_layers

RATIO = "times smaller"
INDEX_BITS = 5  # of a distance
LAYER_COLUMNS = (
    "layer",
    "weights",
    "kept %",
    "fillers",
    "weight bits",
    "index bits",
    "rate %",
    "weight bits, Huffman",
    "index bits, Huffman",
    "rate %, Huffman",
)
PUBLISHED = ("kept %", "weight bits", "index bits", "rate %", *LAYER_COLUMNS[-3:])
# Tables 2 and 3 of the paper: layer -> the columns PUBLISHED.
TABLES: Mapping[str, Mapping[str, tuple[float, ...]]] = {
    "lenet-300-100": {
        "fc1": (8, 6, 5, 3.1, 4.4, 3.7, 2.32),
        "fc2": (9, 6, 5, 3.8, 4.4, 4.3, 3.04),
        "fc3": (26, 6, 5, 15.7, 4.3, 3.2, 12.70),
    },
    "lenet-5": {
        "conv1": (66, 8, 5, 78.5, 7.2, 1.5, 67.45),
        "conv2": (12, 8, 5, 6.0, 7.2, 3.9, 5.28),
        "fc1": (8, 5, 5, 2.7, 4.5, 4.5, 2.45),
        "fc2": (19, 5, 5, 6.9, 5.2, 3.7, 6.13),
    },
}


def run(net: str, recipe: Mapping[str, Any], seed: int, progress: Progress, folder: Path) -> Outcome:
    """Train a net of its own, prune it, share its weights, train the values, write the file and read it.

    The file that is measured has the paper's own coding; the shortest is reported beside it.
    """
    images = sets.load(zoo.entry(net).data)
    trained, pruned = recipe["shares of the time"]
    before = han.trained(net, recipe["first training"], images, seed, progress.part(0.0, trained), folder)
    prune = technique.step("prune_iteratively", **recipe["prune_iteratively"], seed=seed)
    sparse, _ = apply(before, prune, images, progress.part(trained, pruned, folder=folder / "pruned"))
    shared, _ = apply(sparse, technique.step("share_weights", **recipe["share_weights"]), images)
    centroids = technique.step("train_centroids", **recipe["train_centroids"], seed=seed)
    after, report = apply(shared, centroids, images, progress.part(pruned, 1.0, folder=folder / "centroids"))
    with codes.only(recipe["coder"]):
        data = packfile.pack(after)
    read = packfile.unpack(data)
    lost = [100 * (1 - measure.accuracy(bundle, images.test).value) for bundle in (before, read)]
    figures = {
        RATIO: theory.dense_file(before).value / len(data),
        "bytes": float(len(data)),
        "bytes with the shortest coders": float(len(packfile.pack(after))),
        han.BEFORE: lost[0],
        han.AFTER: lost[1],
        han.CHANGE: lost[1] - lost[0],
        **{f"validation {f.name.removeprefix('validation ')}": f.value for f in report.figures},
    }
    return Outcome(figures, {"layers": layer_table(read), "published": published(net)})


def layer_table(bundle: Bundle) -> pd.DataFrame:
    """What the paper's own coding takes of each layer: LAYER_COLUMNS, bits for each entry, fillers included.

    The rate is that of the entries and the table of shared values over 32 bits a weight; the tables of
    Huffman's codes are not counted, as in the paper.
    """
    books = {x: bundle.params[name] for x, name in weight_layers(bundle).items()}
    rows = [_row(layer, book) for layer, book in books.items() if isinstance(book, Codebook)]
    return pd.DataFrame(rows, columns=LAYER_COLUMNS)


def _row(layer: str, book: Codebook) -> tuple[Any, ...]:
    found, weights = relative(book, INDEX_BITS), book.codes.numel()
    entries, kept = len(found.numbers), len(found.numbers) - found.fillers
    values = len(set(found.numbers.tolist()) - {FILLER})
    fixed = codes.width(values)
    rates = [huffman_bits(found.numbers) / entries, huffman_bits(found.distances) / entries]

    def rate(bits: float) -> float:
        return 100 * (entries * bits + FLOAT * values) / (FLOAT * weights)

    return (
        layer,
        weights,
        100 * kept / weights,
        found.fillers,
        fixed,
        INDEX_BITS,
        rate(fixed + INDEX_BITS),
        *rates,
        rate(sum(rates)),
    )


def published(net: str) -> pd.DataFrame:
    """The paper's table for a net: columns layer and PUBLISHED."""
    rows = [(layer, *row) for layer, row in TABLES[net].items()]
    return pd.DataFrame(rows, columns=("layer", *PUBLISHED))


def judge(times: float, error: float, better: float, ours: Ours) -> str:
    """`reproduced`: the median file is as small at no more than the published net's first error.

    `beaten`: also a tenth smaller, and with less error than the published net had at last.
    """
    middle = {name: statistics.median(values) for name, values in ours.items()}
    if middle[RATIO] < times or middle[han.AFTER] > error:
        return "not reached"
    beaten = middle[RATIO] >= 1.1 * times and middle[han.AFTER] < better
    return "beaten" if beaten else "reproduced"


def declared(net: str, recipe: Mapping[str, Any], published: tuple[float, float, float], sizes: str) -> Paper:
    """The declaration for one net; `published` is (times smaller, error before, error after), errors in %."""
    times, before, after = published
    whole = {
        "net": net,
        **recipe,
        "coder": "relative",
    }  # distances with fillers, and values, in Huffman's code
    return Paper(
        name=f"han-deep-{net}",
        paper="Han et al. 2016, Deep Compression: Compressing Deep Neural Networks with Pruning, Trained "
        "Quantization and Huffman Coding, arXiv 1510.00149, table 1",
        claim=f"{zoo.entry(net).title} in a file {times:g} times smaller ({sizes}) makes no more errors.",
        claims=(
            Claim(
                RATIO,
                times,
                "times",
                "dense 32-bit safetensors file / packed file in the paper's own coding, every byte of it, "
                "decoded again",
            ),
            Claim(han.BEFORE, before, "%", harness.TEST_ERRORS),
            Claim(han.AFTER, after, "%", "of the net in the decoded file: " + harness.TEST_ERRORS),
            Claim(
                han.CHANGE,
                round(after - before, 2),
                "points",
                "test error after - before, same net and images",
            ),
        ),
        recipe=whole,
        seeds=(0, 1, 2, 3, 4),
        rule=f"The median file is at least {times:g} times smaller, and its net's median error at most "
        f"{before:g} %; beaten with {1.1 * times:.3g} times and a median error below {after:g} %.",
        judge=partial(judge, times, before, after),
        run=partial(run, net, whole),
        start=han.BEFORE,
    )


LENET_300_100 = declared(
    "lenet-300-100",
    {
        "first training": dict(han.LENET_300_100.recipe["first training"]),
        "prune_iteratively": dict(han.LENET_300_100.recipe["prune_iteratively"]),
        "share_weights": {"entries": 64, "start": "linear"},
        "train_centroids": {"epochs": 5, "learning_rate": 0.001},
        "shares of the time": [0.25, 0.9],
    },
    (40.0, 1.64, 1.58),
    "1070 KB to 27 KB",
)
LENET_5 = declared(
    "lenet-5",
    {
        "first training": dict(han.LENET_5.recipe["first training"]),
        "prune_iteratively": dict(han.LENET_5.recipe["prune_iteratively"]),
        "share_weights": {"entries": 32, "start": "linear", "per_layer": {"conv1": 256, "conv2": 256}},
        "train_centroids": {"epochs": 3, "learning_rate": 0.001},
        "shares of the time": [0.15, 0.93],
    },
    (39.0, 0.80, 0.74),
    "1720 KB to 44 KB",
)
