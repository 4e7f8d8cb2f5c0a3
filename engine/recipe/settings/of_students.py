"""Settings of techniques that train a student beside a teacher."""

from __future__ import annotations

from typing import Annotated

from engine.recipe import settings
from engine.recipe.knobs import Slider, Toggle

Epochs = Annotated[int, settings.epochs("How often the student sees the chosen training samples.")]
Samples = Annotated[
    int,
    Slider(
        low=500,
        high=55_000,
        step=500,
        whole=True,
        unit="samples",
        label="Samples",
        help="How many training samples the student sees; all of them where there are fewer.",
    ),
]
PlainStudent = Annotated[
    bool,
    Toggle(
        label="Plain student",
        help="Also trains the same student on the labels alone, to show what the teacher adds.",
        advanced=True,
    ),
]


def seed(what: str) -> Slider:
    """Fixes `what`, and which samples are seen in which order.

    >>> seed("the first weights").help
    'Fixes the first weights, the chosen samples and their order.'
    """
    return settings.seed(f"Fixes {what}, the chosen samples and their order.")
