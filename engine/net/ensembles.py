"""Several teachers of one task: a model and the zoo's others."""

from __future__ import annotations

from engine.data.sets import Data
from engine.net import sources, zoo
from engine.net.train import Loss, hard_labels, learning_from
from engine.types import Bundle, SlimscopeError


def others(bundle: Bundle) -> list[str]:
    """The zoo's trained models of the bundle's task, without itself and those that are there to be students.

    >>> others(zoo.load("resnet-20"))
    ['vgg-small']
    """
    own = bundle.arch.name if bundle.arch.source == "zoo" else ""
    students = {entry.student for entry in zoo.ENTRIES.values()}
    task = sources.task(bundle.arch)
    return [
        name
        for name in zoo.trained()
        if zoo.entry(name).data == task and name not in students and name != own
    ]


def teachers(bundle: Bundle, data: Data, which: str) -> list[Bundle]:
    """The bundle alone for `one`; for `zoo` its `others` follow it.

    Raises SlimscopeError where there are none, or where they want the data standardised otherwise.
    """
    if which == "one":
        return [bundle]
    names, title = others(bundle), zoo.title(bundle.arch)
    if not names:
        raise SlimscopeError(f"the zoo has no other teacher for {title}: choose teachers = 'one'")
    theirs = sources.data(zoo.load(names[0]).arch).train
    if (theirs.mean, theirs.std) != (data.train.mean, data.train.std):
        raise SlimscopeError(
            f"the data of {title} is standardised by other numbers than the zoo's: choose teachers = 'one'"
        )
    return [bundle, *map(zoo.load, names)]


def lesson(bundle: Bundle, data: Data, teacher: str, temperature: float, alpha: float) -> Loss:
    """The loss of a training that learns from the labels (`none`), or from teachers as well.

    They are the bundle's origin (`original`), and the zoo's others of its task beside it (`zoo`), in eval
    mode and not trained. Raises SlimscopeError as `teachers` does.
    """
    if teacher == "none":
        return hard_labels
    which = {"original": "one", "zoo": "zoo"}[teacher]
    return learning_from(
        [zoo.build(each) for each in teachers(bundle.origin, data, which)], temperature, alpha
    )
