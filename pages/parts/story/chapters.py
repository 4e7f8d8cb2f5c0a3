"""The chapters of the story: each a short question, one picture, what to see in it, and a trap."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from engine.jobs import story
from engine.papers import ingredients, record
from engine.recipe import technique
from engine.types import Recipe
from pages.parts import figures
from pages.parts.charts import Chart
from pages.parts.story import pictures
from pages.parts.story.facts import MODEL, Facts
from pages.parts.story.told import Row, Told, percent

TITLES = {
    "look": "Look",
    "prune": "Prune",
    "guess": "Until it breaks",
    "tune": "Fine-tune",
    "quantize": "Quantize",
    "file": "The file",
    "record": "The record",
}


def share(value: float) -> str:
    """A share as a round number of per cent.

    >>> share(0.95)
    '95 %'
    """
    return f"{100 * value:.0f} %"


def ingredient(name: str) -> str:
    """What an ingredient of the record is called.

    >>> ingredient("rate")
    'Rate-aware rounding'
    """
    return ingredients.NAMES[name].capitalize()


STEPS = {
    "plain": "Original, 32 bits each",
    "original": "Coded, nothing lost",
    "pruned": f"Pruned, {share(story.TUNED)} zeros",
    "tuned": "Fine-tuned",
    "rounded": f"Quantized, {story.BITS} bits",
}
BROKEN = max(story.SPARSITIES)  # the share of zeros whose accuracy is guessed
HOLDS = max(share for share in story.SPARSITIES if share < story.TUNED)


@dataclass(frozen=True)
class Asked:
    """A guess: what is asked, where the scale begins, where it stands at first (shares), and the answer."""

    question: str
    lowest: float
    start: float
    answer: Row


@dataclass(frozen=True)
class Chapter:
    """A chapter with its numbers in place; the picture is a figure, or HTML."""

    question: str
    picture: Chart | str
    alt: str
    see: str
    trap: str


def asked(told: Told) -> dict[str, Asked]:
    """What is guessed, by chapter."""
    pruned = told.accuracy("pruned")["value"]
    there, after = told.accuracy("pruned", BROKEN), told.accuracy("tuned")
    right = "Your guess: how many of 100 digits does it read right"
    return {
        "guess": Asked(f"{right} at {share(BROKEN)} zeros?", 0.0, round(pruned, 2), there),
        "tune": Asked(f"{right} after this training?", int(20 * pruned - 1) / 20, round(pruned, 3), after),
    }


def tell(name: str, facts: Facts, guess: float | None, chosen: Collection[str] = ingredients.OWN) -> Chapter:
    """A chapter by its name; `guess` is the visitor's, None before there is one, `chosen` the record's ingredients."""
    match name:
        case "look":
            return look(facts)
        case "prune":
            return prune(facts)
        case "guess":
            return until_it_breaks(facts, guess)
        case "tune":
            return tune(facts, guess)
        case "quantize":
            return quantize(facts)
        case "record":
            return the_record(facts, chosen)
        case _:
            return the_file(facts)


def look(facts: Facts) -> Chapter:
    values, near = facts.weights(), facts.threshold()
    inside = share(float((values.abs() <= near).float().mean()))
    return Chapter(
        "What is inside the file of a model?",
        pictures.weights(values),
        f"Histogram of the {len(values):,} weights of the model: most are close to zero",
        f"This model reads handwritten digits, and is nothing but numbers: {len(values):,} weights. They reach from "
        f"{float(values.min()):.2f} to {float(values.max()):.2f}, but **{inside} lie within {near:.2f} of zero**.",
        f"A number close to zero takes as many bytes as a large one. A better code alone, which loses nothing, saves "
        f"only {share(1 - facts.told.size('original') / facts.told.plain)}.",
    )


def prune(facts: Facts) -> Chapter:
    told, gone = facts.told, share(story.TUNED)
    return Chapter(
        f"What if the smallest {gone} of the weights become exactly zero?",
        pictures.weights(facts.weights(), facts.threshold(), f"{gone} become zero"),
        f"The same histogram with a band around zero: the {gone} of the weights in it are removed",
        f"Setting weights to zero is called pruning. The file shrinks from {told.words('original')} to "
        f"**{told.words('pruned')}**, and still {percent(told.accuracy('pruned'))} of the digits are read right, instead of "
        f"{percent(told.accuracy('original'))}.",
        f"Zeros alone save nothing: written as plain 32-bit numbers the pruned model has {told.plain:,} bytes, as before. "
        "It gets small when the file stores only what is not zero.",
    )


def until_it_breaks(facts: Facts, guess: float | None) -> Chapter:
    told, most = facts.told, share(BROKEN)
    there, fine = told.accuracy("pruned", BROKEN), told.accuracy("pruned", HOLDS)
    fallen = percent(told.accuracy("pruned"))
    return Chapter(
        f"How accurate is it when {most} of the weights are zero?",
        pictures.cliff(told.along(), guess),
        "Test accuracy against the share of weights that are zero",
        f"Accuracy holds for long, then falls off a cliff: {percent(fine)} at {share(HOLDS)} zeros, {fallen} at "
        f"{share(story.TUNED)}, **{percent(there)} at {most}**. We go on from {share(story.TUNED)}.",
        "What the first zeros cost says little about the next. Each model has its cliff somewhere else, so it has "
        "to be measured.",
    )


def tune(facts: Facts, guess: float | None) -> Chapter:
    told, epochs = facts.told, story.tuned().steps[-1].settings["epochs"]
    before, after, original = (told.accuracy(step) for step in ("pruned", "tuned", "original"))
    return Chapter(
        "What does a little more training win back?",
        pictures.recovery(told.along_until(story.TUNED), after, original, guess),
        "Test accuracy falls with the share of zeros; an arrow shows what training wins back",
        f"Going through the training images {epochs} more times, called fine-tuning, brings {percent(before)} back to "
        f"**{percent(after)}**; the original has {percent(original)}.",
        "The zeros must be held at zero while it trains, or the file grows back. And who has only the file, without "
        "the training images, can't do it.",
    )


def quantize(facts: Facts) -> Chapter:
    told, (before, after) = facts.told, facts.neuron()
    used = len(set(after.tolist()))
    return Chapter(
        "How exact must the weights be that are left?",
        pictures.staircase(before, after),
        f"The weights of one neuron before and after rounding: {len(before)} values become {used}, on a staircase",
        f"{story.BITS} bits can tell {2**story.BITS} values apart. Here are the {len(before)} weights of one neuron: each is moved to "
        f"the nearest stair, **only {used} different values are left**, and {percent(told.accuracy('rounded'))} of the digits "
        "are read right.",
        "Every weight is now a little wrong, and the answers hardly are: how far the weights are off does not tell "
        "how many answers change. That has to be measured.",
    )


def the_file(facts: Facts) -> Chapter:
    told = facts.told
    before, after = told.accuracy("original"), told.accuracy("rounded")
    return Chapter(
        "What is left of the file?",
        pictures.squares(told.plain, told.last),
        "",
        f"**{figures.text(told.times, 'times')} smaller**: {told.plain:,} bytes have become {told.last:,}. Of {after['n']:,} digits "
        f"that the model never saw, {percent(after)} are read right, instead of {percent(before)}.",
        "Smaller is not faster: a zero is multiplied like any other number, unless the program that runs the model knows "
        "how to skip it. Each page's tab Ship it measures that.",
    )


def the_record(facts: Facts, chosen: Collection[str]) -> Chapter:
    found, last = facts.record, facts.record.files(chosen)[-1]
    others = ", ".join(f"{whose} {size:,} bytes at {wrong:g} % errors" for whose, size, wrong in found.others)
    own = [("the record", found.size, found.error)]
    if last["bytes"] != found.size:
        own.append(("your choice", last["bytes"], last["test error %"]))
    return Chapter(
        "How small can it get, if every step is chosen for it?",
        pictures.rivals(own, found.others, found.curve),
        f"Bytes of the file against test errors: {'; '.join(f'{w} {b:,} bytes at {e:.2f} %' for w, b, e in own)}; {others}",
        f"Pruned little by little, trained on a grid of 4 bits, and trimmed, the file is "
        f"**{figures.text(found.times, 'times')} smaller**: {found.size:,} bytes with {found.error:.2f} % errors. The best published "
        f"file whose every byte is counted: {others}. The line is the same recipe with other shares of zeros.",
        "Many published ratios leave out scales, biases and the header. Compare files, not weights.",
    )


# ---------------------------------------------------------------- where to go on


@dataclass(frozen=True)
class Page:
    """Where a chapter can be tried out: a page, and a recipe whose last step it tries."""

    name: str
    words: str
    recipe: Recipe


def page(name: str) -> Page:
    """Where to go on from a chapter."""
    match name:
        case "look":
            return Page("prune", "Open this on the page Prune", pruned(0.0))
        case "guess":
            return Page("prune", "Open this on the page Prune", pruned(BROKEN))
        case "prune" | "tune":
            return Page("prune", "Open this on the page Prune", pruned(story.TUNED))
        case "quantize":
            return Page("quantize", "Open this recipe on the page Quantize", story.rounded())
        case "record":
            return Page("tradeoffs", "Open this recipe on the page Decide", record.recipe(MODEL))
        case _:
            return Page("tradeoffs", "Open this recipe on the page Decide", story.rounded())


def pruned(sparsity: float) -> Recipe:
    return technique.complete(Recipe((technique.step("prune_weights", sparsity=sparsity),)))
