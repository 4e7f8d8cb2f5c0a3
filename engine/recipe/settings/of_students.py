"""Settings of techniques that train a student beside a teacher."""

from __future__ import annotations

from typing import Annotated

from engine.recipe import settings
from engine.recipe.knobs import Choice, Slider, Toggle

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

Augmentation = Annotated[
    str,
    Choice(
        label="Augmentation",
        help="What is done to the samples each time that the student sees them.",
        options={
            "usual": "as for fine-tuning: images are moved, one word in five is masked",
            "words": "texts are reworded: words masked or replaced, short runs kept alone (Tang 2019)",
        },
        advanced=True,
        added=True,
    ),
]


def _of_words(label: str, help: str, unit: str = "share of words") -> Slider:
    """A chance that something is done to a text, where texts are reworded."""
    return Slider(
        low=0.0,
        high=0.5,
        step=0.05,
        percent=True,
        unit=unit,
        label=label,
        help=help,
        when=(("augmentation", ("words",)),),
        advanced=True,
        added=True,
    )


MaskedWords = Annotated[float, _of_words("Masked words", "How many words are hidden.")]
ReplacedWords = Annotated[
    float,
    _of_words("Replaced words", "How many words become another of the texts, a frequent one more often."),
]
WordRuns = Annotated[
    float,
    _of_words("Short runs", "How many texts are cut to one to five neighbouring words.", "share of texts"),
]


def seed(what: str) -> Slider:
    """Fixes `what`, and which samples are seen in which order.

    >>> seed("the first weights").help
    'Fixes the first weights, the chosen samples and their order.'
    """
    return settings.seed(f"Fixes {what}, the chosen samples and their order.")
