"""Every term in one sentence, for someone who has never heard it."""

from __future__ import annotations

import re
from html import escape

import streamlit as st

TERMS = {
    "accuracy": "The share of samples that the model classifies right, measured by running it.",
    "Agresti-Min interval": "The 95 % interval of a difference, from the samples on which two models disagree.",
    "basis": "Where a number comes from: counted (exact), modelled (a formula) or measured (observed).",
    "bit width": "How many bits one stored weight takes; b bits can tell 2^b values apart.",
    "break-even": "The rank above which two thin layers hold more weights than the layer they replace.",
    "calibration": "Looking at real inputs once, to choose the range that a quantizer covers.",
    "channel": "One output of a layer; with a scale of its own, a channel of small weights keeps fine steps.",
    "clipping": "Values outside of the chosen range are moved to its end, so that the rest gets finer steps.",
    "compressed file": "The model as bytes that were written, read back and compared, header and all.",
    "depthwise separable": "One filter for each channel, then a 1x1 convolution that mixes them: MobileNet's design.",
    "distillation": "Training a small model (student) to give the same shares as a large one (teacher).",
    "energy": "The sum of squared weights; what share of it is kept tells how much of a matrix is left.",
    "entropy": "The fewest bits per symbol that any code reaches when symbols are coded independently.",
    "fine-tuning": "Training on, for a few epochs, what compression has left; removed weights stay removed.",
    "latency": "The time of one forward pass, here with one thread; the batch is said beside it.",
    "logit": "A model's raw score of a class, before softmax turns scores into shares.",
    "low rank": "A matrix written as a tall one times a wide one, which is smaller below the break-even rank.",
    "MAC": "One multiplication with its addition; the usual measure of a model's work.",
    "parameters": "All trained numbers of the model: weights, biases and those of batch-norm.",
    "Pareto front": "The settings that nothing beats: nothing else is as small and as accurate, and better in one.",
    "pruning": "Setting weights to zero. It saves bytes only in a format that does not store zeros.",
    "quantization": "Rounding weights to a few evenly spaced levels, and storing the number of the level.",
    "rank": "How many rank-one pieces a matrix is made of: the width of the thin middle after a split.",
    "recipe": "Compression steps in order; the link in your address bar holds it.",
    "shuffle": "Deals the channels of each group out over all groups, so that the next groups read all of them.",
    "signal to noise": "Squared weights over squared errors, in decibels: 6 dB more is half the error.",
    "singular value": "How much one rank-one piece adds to a matrix; large ones come first.",
    "sparsity": "The share of weights that are exactly zero.",
    "SQNR": "Signal to quantization noise, in decibels: 6 dB more is half the error.",
    "student": "The small model that learns from a large one.",
    "teacher": "The large model whose shares a small one learns to give.",
    "temperature": "Divides the logits before softmax; above 1 it shows what the model thinks of the other classes.",
    "threshold": "Weights whose size is not above it are removed.",
    "perplexity": "Among how many equally likely tokens a model would be as unsure what comes next: lower is better.",
    "bits per character": "How many bits a letter of the text takes, if the model's probabilities were used to code it.",
    "Wilson interval": "Where the true accuracy lies with 95 % confidence, given n samples.",
    "zero weights": "The share of weights that are exactly zero: the sparsity.",
    "zero point": "The code that stands for exactly zero on an asymmetric grid.",
}


# Longer terms first, so that "low rank" is not taken for "rank".
_TERM = re.compile(rf"\b({'|'.join(sorted(map(re.escape, TERMS), key=len, reverse=True))})\b", re.IGNORECASE)
_MEANING = {term.lower(): meaning for term, meaning in TERMS.items()}


def explained(words: str) -> str:
    """The words as HTML, with the meaning behind the first term of the glossary in them.

    >>> explained("Sparsity & more")
    '<abbr tabindex="0" title="The share of weights that are exactly zero.">Sparsity</abbr> &amp; more'
    """
    found = _TERM.search(words)
    if found is None:
        return escape(words)
    meaning = escape(_MEANING[found.group().lower()])
    term = f'<abbr tabindex="0" title="{meaning}">{escape(found.group())}</abbr>'
    return f"{escape(words[: found.start()])}{term}{escape(words[found.end() :])}"


def draw(*_: object) -> None:
    """The glossary in two columns, with what the three badges mean."""
    columns = st.columns(2, gap="large")
    half = -(-len(TERMS) // 2)
    for column, part in zip(columns, (list(TERMS.items())[:half], list(TERMS.items())[half:]), strict=True):
        column.markdown("\n\n".join(f"**{term}**: {meaning}" for term, meaning in part))
