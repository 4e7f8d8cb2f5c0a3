"""What a technique declares: contradictions are refused, and costs are what its runs take."""

from collections.abc import Mapping
from typing import Any

import pytest

import engine.techniques  # noqa: F401  (fills the registry)
from engine.recipe.technique import REGISTRY, Cost, Ranked, get, technique
from engine.types import Bundle, Progress, Report

RIGHT: Mapping[str, Any] = {
    "family": "prune",
    "title": "Nothing",
    "reference": "nobody 2020",
    "stage": 500,
    "runs": "instant",
    "locality": "element",
    "tables": {},
}


def nothing(bundle: Bundle, data: None) -> tuple[Bundle, Report]:
    """Leave everything as it is."""
    raise NotImplementedError


def trainer(bundle: Bundle, data: None, *, progress: Progress) -> tuple[Bundle, Report]:
    """Train nothing."""
    raise NotImplementedError


@pytest.mark.parametrize(
    ("function", "wrong", "says"),
    [
        (nothing, {"stage": 99}, "has stage 99: allowed is 100 to 799"),
        (nothing, {"stage": 800}, "has stage 800"),
        (nothing, {"runs": "soon"}, "runs 'soon': allowed is one of instant, seconds, trains"),
        (nothing, {"locality": "here"}, "has locality 'here': allowed is one of element, row, layer, ranked"),
        (nothing, {"runs": "trains", "cost": lambda chosen: Cost(1)}, "must take `progress`"),
        (trainer, {}, "must take `progress`"),
        (trainer, {"runs": "trains"}, "must declare its cost"),
        (nothing, {"cost": lambda chosen: Cost(1)}, "must declare its cost"),
        (nothing, {"locality": "ranked"}, "must say how an index answers"),
        (nothing, {"ranked": Ranked(lambda *_: {}, lambda *_: None)}, "must say how an index answers"),  # type: ignore[arg-type, return-value]
    ],
)
def test_declarations_that_are_unknown_or_contradict_each_other_are_refused(
    function: Any, wrong: Mapping[str, Any], says: str
) -> None:
    known = dict(REGISTRY)
    with pytest.raises(ValueError, match=says):
        technique(**{**RIGHT, **wrong})(function)
    assert known == REGISTRY


@pytest.mark.parametrize(
    ("name", "settings", "cost"),
    [
        ("finetune", {"epochs": 3}, Cost(3)),
        ("slim", {"epochs": 5, "tuning": 3}, Cost(8)),
        ("prune_iteratively", {"epochs": 2, "rounds": 5}, Cost(10)),
        ("prune_iteratively", {"epochs": 2, "rounds": 5, "schedule": "gradual"}, Cost(2)),
        ("lottery_ticket", {"epochs": 6, "rounds": 7}, Cost(90)),
        ("lottery_ticket", {"epochs": 6, "rounds": 7, "random_mask": True}, Cost(132)),
        ("distill", {"epochs": 10, "subset": 600}, Cost(20, images=600, student=True)),
        ("distill", {"epochs": 10, "control": False}, Cost(10, images=10_000, student=True)),
        ("distill", {"epochs": 2, "student": "narrow"}, Cost(4, images=10_000)),
        ("finetune", {"epochs": 3, "teacher": "original"}, Cost(4)),
        ("factor_transfer", {"epochs": 10, "paraphraser_epochs": 3}, Cost(23, images=10_000, student=True)),
    ],
)
def test_the_cost_counts_every_run_and_round(name: str, settings: Mapping[str, Any], cost: Cost) -> None:
    declared = get(name).cost
    assert declared is not None
    assert declared(get(name).check(settings)) == cost


def test_the_stages_put_steps_in_their_usual_order() -> None:
    assert sorted(REGISTRY, key=lambda name: REGISTRY[name].stage) == [
        "distill",
        "factor_transfer",
        "search_design",
        "low_rank",
        "low_rank_rnn",
        "replace_convs",
        "prune_channels",
        "slim",
        "condense",
        "prune_filters",
        "prune_heads",
        "lottery_ticket",
        "prune_iteratively",
        "optimal_brain_damage",
        "sparse_gpt",
        "prune_weights",
        "finetune",
        "equalize",
        "smoothquant",
        "quantize",
        "mixed_precision",
        "number_format",
        "zeroq",
        "ternarize",
        "binarize",
        "adaround",
        "gptq",
        "aciq",
        "weight_only",
        "entropy_penalty",
        "share_weights",
        "zeroquant",
        "product_quantize",
        "train_centroids",
        "ternarize_trained",
        "quantize_aware",
        "learn_intervals",
        "distill_quantized",
        "recalibrate",
        "trim",
    ]
