"""Recipes that are known by a name: several steps together, with the settings of a paper.

`deep_compression` (Han 2016, arXiv 1510.00149): prune, fine-tune, share weights, train the shared values;
the packed file then codes them. Its settings are those of the paper's LeNets: 8 % of the weights stay;
8 bits an index in convolutions and 5 in matrices, and 6 where there are no convolutions.

`record`: the smallest file of a LeNet at no more errors than the published net. Prune at once, then
gradually; train on a grid of 4 bits; trim. Where there are convolutions the original is a teacher, and
weights are rounded where bits and error cost least together, and trained once more on their grid.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from engine.recipe import technique
from engine.types import Bundle, Recipe, SlimscopeError, weight_layers


def deep_compression(bundle: Bundle) -> Recipe:
    """Prune -> fine-tune -> share weights -> train centroids.

    >>> import engine.techniques
    >>> from engine.net import zoo
    >>> recipe = deep_compression(zoo.initial("lenet-5"))
    >>> [step.technique for step in recipe]
    ['prune_weights', 'finetune', 'share_weights', 'train_centroids']
    >>> recipe.steps[2].settings["entries"], dict(recipe.steps[2].settings["per_layer"])
    (32, {'conv1': 256, 'conv2': 256})
    """
    kernels = [x for x, name in weight_layers(bundle).items() if len(bundle.params[name].shape) > 2]
    return Recipe(
        (
            technique.step("prune_weights", sparsity=0.92, allocation="layer"),
            technique.step("finetune", epochs=10, learning_rate=0.03),
            technique.step(
                "share_weights",
                entries=32 if kernels else 64,
                start="linear",
                per_layer=dict.fromkeys(kernels, 256),
            ),
            technique.step("train_centroids", epochs=3),
        )
    )


Steps = Sequence[tuple[str, Mapping[str, Any]]]  # technique and settings
ON_GRID = {"bits": 4, "end_bits": 4, "activations": False, "learning_rate": 0.01}
TAUGHT = {"temperature": 4.0, "alpha": 0.7, "control": False}  # by the original


def on_grid(is_taught: bool, **more: Any) -> tuple[str, Mapping[str, Any]]:
    """A training on a grid of 4 bits, by labels alone, or by the answers of the original as well."""
    if is_taught:
        return ("distill_quantized", {**ON_GRID, **TAUGHT, **more})
    return ("quantize_aware", {**ON_GRID, **more})


def _gradually(sparsity: float, epochs: int, rate: float, **more: Any) -> tuple[str, Mapping[str, Any]]:
    settings = {"sparsity": sparsity, "schedule": "gradual", "epochs": epochs, "learning_rate": rate}
    return ("prune_iteratively", {**settings, **more})


AT_ONCE = ("prune_weights", {"sparsity": 0.9})
BY_RATE = ("entropy_penalty", {"penalty": 0.1, "grid": "own"})
TRIM = ("trim", {"changed": 0.001, "samples": 5000})
RECORD: Mapping[str, Steps] = {
    "matrices": (AT_ONCE, _gradually(0.9825, 24, 0.05), on_grid(False, epochs=6), TRIM),
    "convolutions": (
        AT_ONCE,
        _gradually(0.988, 16, 0.02, teacher="original"),
        on_grid(True, epochs=4),
        BY_RATE,
        on_grid(True, grid="own", epochs=2),
        TRIM,
    ),
}


def as_data(steps: Steps) -> list[Any]:
    """Steps as JSON data."""
    return [[name, dict(settings)] for name, settings in steps]


def record(bundle: Bundle) -> Recipe:
    """Prune at once, then gradually -> train on a grid -> trim; with convolutions, round by rate between.

    >>> import engine.techniques
    >>> from engine.net import zoo
    >>> [step.technique for step in record(zoo.initial("lenet-300-100"))]
    ['prune_weights', 'prune_iteratively', 'quantize_aware', 'trim']
    """
    has_kernels = any(len(bundle.params[name].shape) > 2 for name in weight_layers(bundle).values())
    steps = RECORD["convolutions" if has_kernels else "matrices"]
    return Recipe(tuple(technique.step(name, **settings) for name, settings in steps))


RECIPES: Mapping[str, Callable[[Bundle], Recipe]] = {"deep_compression": deep_compression, "record": record}


def recipe(name: str, bundle: Bundle) -> Recipe:
    """The recipe of this name for a model. Raises SlimscopeError for a stranger."""
    if name not in RECIPES:
        raise SlimscopeError(f"recipe {name!r} is not known: there are {', '.join(RECIPES)}, or JSON")
    return RECIPES[name](bundle)
