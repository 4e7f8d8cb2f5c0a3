"""What colours the boxes: bytes, multiply-adds, errors or sensitivity of each layer."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from engine.figures import scores
from engine.jobs.job import Job
from engine.recipe import technique
from engine.types import Bundle, SlimscopeError, weight_layers
from pages.parts import cached, figures, jobs, session, spoken, visitor

LOST = 0.01  # of accuracy: where a layer costs that much, layers can be told apart


@dataclass(frozen=True)
class Measure:
    """A number for each layer. `about` says what it is and `phrase` says it of one layer; `missing` says why there
    is none, and what to do about it.
    """

    values: Mapping[str, float] = field(default_factory=dict)
    unit: str = ""
    about: str = ""
    phrase: str = "{}"
    missing: str = ""

    @property
    def most(self) -> float:
        return max(self.values.values(), default=0.0)

    def share(self, layer: str) -> float:
        """A layer's value as a share of the most, 0 to 1."""
        return max(self.values[layer], 0.0) / self.most if self.most > 0 else 0.0

    def text(self, layer: str) -> str:
        return self.said(self.values[layer]) if layer in self.values else ""

    def sentence(self, layer: str) -> str:
        return self.phrase.format(self.text(layer)) if layer in self.values else ""

    def said(self, value: float) -> str:
        """A value with its unit, as people read it."""
        return f"{100 * value:.2f} points" if self.unit == "points" else figures.text(value, self.unit)


def weights(bundle: Bundle) -> Measure:
    """How many numbers each layer's weight has."""
    counted = {
        label: float(math.prod(bundle.params[name].shape)) for label, name in weight_layers(bundle).items()
    }
    return Measure(counted, "weights", "weights of each layer", "{} weights")


def _bytes(subject: str, key: str) -> Measure:
    is_written = not cached.is_large(subject) or cached.written(subject, key) is not None
    table = cached.layers(subject, key, is_written).set_index("layer")
    column, where = (
        ("packed bytes", "in the compressed file")
        if is_written
        else ("dense bytes", "as 32-bit floats: the compressed file is not written yet")
    )
    values = table[column].dropna().astype(float).to_dict()
    return Measure(values, "bytes", f"bytes of each layer's weights {where}", f"{{}} {where}")


def _macs(subject: str, key: str) -> Measure:
    table = cached.layers(subject, key, False).set_index("layer")
    if "macs" not in table:
        why = cached.uncounted(subject, key) or "Multiply-adds need a known architecture."
        return Measure(missing=why)
    return Measure(
        table["macs"].astype(float).to_dict(),
        "MAC",
        "multiply-adds with each layer's weights, for one input",
        "{} for one input",
    )


def _errors(subject: str, key: str) -> Measure:
    if cached.is_large(subject):
        return Measure(
            missing="Of a model this large, Prune and Quantize show the error of the layer in view."
        )
    found = cached.relative_errors(subject, key)
    if not any(found.values()):
        return Measure(
            missing="Nothing is changed yet: keep a step, and its error is shown here, layer by layer."
        )
    return Measure(
        found,
        "share",
        "change of each layer's weights against the original, as a share of their size",
        "changed by {} of its size",
    )


def _sensitivity(subject: str, key: str) -> Measure:
    job = _newest_scan()
    if job is None:
        return Measure(
            missing="No layer was scanned yet: on Prune or Quantize, open Go deeper and press "
            "Scan each layer by itself."
        )
    setting, rows = job.payload["setting"], [row for row in job.series if row.get("change") is not None]
    if not rows:
        return Measure(missing="No layer could be scanned: the scan says why, under Go deeper on its page.")
    value = _telling(rows)
    is_loss = scores.is_loss(rows[0]["accuracy"])
    lost = {row["layer"]: max(-row["change"], 0.0) for row in rows if row["value"] == value}
    knob = technique.get(job.payload["technique"]).knobs[setting]
    words = f"{knob.label.lower()} {spoken.written(knob, value)}"
    if is_loss:
        return Measure(
            {layer: scores.relative(-loss) for layer, loss in lost.items()},
            "relative",
            f"validation perplexity added where one layer alone is at {words}",
            f"{{}} of validation perplexity at {words} of this layer alone",
        )
    return Measure(
        lost,
        "points",
        f"validation accuracy lost where one layer alone is at {words}",
        f"{{}} of validation accuracy lost at {words} of this layer alone",
    )


def _newest_scan() -> Job | None:
    """The newest scan of the model in view that came to its end, of single layers."""
    wanted = {"model": session.model(), "data": visitor.scaling()}
    for job in jobs.manager().list(visitor.owner()):
        is_scan = job.kind == "sensitivity" and not job.payload.get("all_but")
        if is_scan and job.state == "done" and wanted.items() <= job.payload.items():
            return job
    return None


def _telling(rows: list[Mapping[str, float]]) -> float:
    """The gentlest value that was scanned at which a layer loses something; the harshest where none does."""
    values = list(dict.fromkeys(row["value"] for row in rows))
    for value in values:
        if any(row["change"] <= -LOST for row in rows if row["value"] == value):
            return value
    return values[-1]


OF: Mapping[str, Callable[[str, str], Measure]] = {
    "Bytes": _bytes,
    "Multiply-adds": _macs,
    "Error": _errors,
    "Sensitivity": _sensitivity,
}


def of(choice: str, subject: str, key: str) -> Measure:
    """The numbers of a choice of OF; where they can't be had, the reason is in `missing`."""
    try:
        return OF[choice](subject, key)
    except SlimscopeError as error:
        return Measure(missing=f"Not known: {error}.")
