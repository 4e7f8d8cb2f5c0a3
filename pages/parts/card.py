"""The model card: what the model is, what it was trained on, and how well it did."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

import streamlit as st

from engine.data.sets import TITLES
from engine.jobs import as_json
from engine.net import zoo
from pages.parts import figures

PARTS = ("training", "validation", "test")


def draw(card: Mapping[str, Any]) -> None:
    """A card as a small table in a fold, and its file to take away."""
    with st.expander("Model card"):
        rows = (
            f'<tr><td>{escape(label)}</td><td class="text">{escape(words)}</td></tr>'
            for label, words in told(card)
        )
        st.html(f'<table class="slim-table">{"".join(rows)}</table>')
        st.download_button(
            "Model card (.json)",
            lambda: json.dumps(card, indent=1).encode(),
            f"{card['name']}.json",
            "application/json",
            on_click="ignore",
            icon=":material/download:",
        )


def told(card: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The rows of a card: label and words; what a card does not say is left out."""
    yield "Model", f"{card['title']}: {card['about']}"
    yield "Size", f"{card['parameters']:,} parameters, {figures.text(card['macs'], 'MAC')} for one input"
    yield "Data", _data(card["data"])
    tested = as_json.figure_of(card.get("test accuracy") or card["test perplexity"])
    value = figures.text(tested.value, tested.unit)
    yield f"Test {tested.name}", f"{value} ({figures.interval(tested)}): {tested.how}"
    if "published" in card:
        published = card["published"]
        yield "Published validation loss", f"{published['validation loss']:.4f} {published['how']}"
    if "validation accuracy" in card:
        yield "Validation accuracy", figures.text(card["validation accuracy"], "share")
    if "test use" in card:
        yield "Use of test data", card["test use"]
    if "plan" in card:
        yield "Training", _training(card["plan"])
    if "wall seconds" in card:
        yield "Training time", _time(card["wall seconds"], card["threads"])
    if "source" in card:
        yield "Source", card["source"]
    if name := zoo.entry(card["name"]).larger:
        larger = zoo.entry(name)
        yield "Larger, not bundled", f"{larger.title}: make its file by {larger.command}, and open it here"
    yield "Made with", ", ".join(f"{name} {version}" for name, version in card["versions"].items())
    yield "Made by", card["command"]
    yield "Licence", card["licence"]


def _data(text: str) -> str:
    """The data of a card, `cifar10-45000-5000-10000-s2015`, in words."""
    name, *rest = text.rsplit("-", len(PARTS) + 1)
    sizes = [f"{int(size):,} for {part}" for size, part in zip(rest, PARTS, strict=False) if size.isdigit()]
    return ": ".join(filter(None, (TITLES.get(name, name), ", ".join(sizes))))


def _training(plan: Mapping[str, Any]) -> str:
    words = f"{plan['epochs']} epochs, {plan['optimizer'].upper() if plan['optimizer'] == 'sgd' else plan['optimizer']}"
    words += f" with learning rate {plan['learning_rate']:g}, batches of {plan['batch']}"
    turned = [f"shifted by up to {plan['shift']} pixels"] if plan.get("shift") else []
    turned += ["mirrored"] if plan.get("flip") else []
    masked = plan.get("mask_words")
    words += f"; images {' and '.join(turned)} at random" if turned else ""
    words += f"; {100 * masked:g} % of word pieces masked at random" if masked else ""
    return f"{words}; seed {plan['seed']}"


def _time(seconds: float, threads: int) -> str:
    minutes = seconds / 60
    words = (
        f"{minutes / 60:.1f} hours"
        if minutes >= 90
        else f"{minutes:.0f} minutes"
        if minutes >= 2
        else f"{seconds:.0f} seconds"
    )
    return f"{words} on {threads} thread{'' if threads == 1 else 's'}"
