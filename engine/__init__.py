"""slimscope's engine: compression of neural networks as pure functions over frozen data.

From a notebook: `engine.compress` gives a smaller net back, `engine.explore` opens the pages on a net.
Nothing is imported before one of them is called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from engine.types import Figure


def compress(
    model: nn.Module,
    recipe: Any,
    train: Any = None,
    validation: Any = None,
    test: Any = None,
    metric: Any = None,
) -> tuple[nn.Module, tuple[Figure, ...]]:
    """A net after a recipe as a plain nn.Module, and its figures: file size, zeros, accuracy, change.

    `recipe` is JSON text, a list of [technique, settings], or a Recipe. Data are map-style data sets of
    (input, target), or pairs of tensors; without them, what must run the net is refused. The model that is
    given stays as it is. Raises SlimscopeError where a step does not fit.
    """
    from engine import notebook

    return notebook.compress(model, recipe, (train, validation, test), metric)


def explore(
    model: nn.Module, train: Any, validation: Any, test: Any, metric: Any = None, port: int = 0
) -> str:
    """Start the pages on a net of this process and return their address; they end with this process.

    Data as for `compress`. `port` 0 takes a free one. Raises SlimscopeError where the net or the data
    can't serve, or where the server does not start.
    """
    from engine import notebook

    return notebook.explore(model, (train, validation, test), metric, port)
