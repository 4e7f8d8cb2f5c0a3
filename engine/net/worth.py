"""What each weight of a net is worth by any of the scores, and which layers a score fits."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from engine.data.sets import Data
from engine.net import curvature, matching, taps
from engine.tensor import scores
from engine.types import Bundle, SlimscopeError, weight_layers

UNMATCHED = "its outputs are no matrix times what enters it"
DERIVED: Mapping[str, tuple[Callable[..., Mapping[str, Tensor]], Callable[[Tensor, Tensor], Tensor]]] = {
    "taylor": (curvature.gradient_of, scores.taylor),
    "obd": (curvature.diagonal_of, scores.brain_damage),
}


def scores_of(
    bundle: Bundle, data: Data | None, values: Mapping[str, Tensor], score: str, samples: int, seed: int
) -> dict[str, Tensor]:
    """Layer -> score of each weight, in its shape; nothing where magnitudes decide."""
    names = weight_layers(bundle)
    match score:
        case "random":
            # by its place in the net, so that a layer's chances do not hang on which others are left out
            place = {label: 1000 * seed + i for i, label in enumerate(names)}
            return {label: scores.chance(w, place[label]) for label, w in values.items()}
        case "batch-norm":
            scales = normal_scales(bundle)
            return {label: scores.normal_scale(w, scales[label]) for label, w in values.items()}
        case "wanda":
            norms = matching.norms_of(bundle, _data(data, bundle, score).train, samples, seed)
            return {label: scores.wanda(w, norms[label]) for label, w in values.items()}
        case "taylor" | "obd":
            derive, rule = DERIVED[score]
            known = derive(bundle, _data(data, bundle, score).train, samples, seed)
            return {label: rule(w, known[names[label]]) for label, w in values.items()}
    return {}


def _data(data: Data | None, bundle: Bundle, score: str) -> Data:
    if data is None or not bundle.arch.runs:
        raise SlimscopeError(f"score {score!r} must run the model: it needs a known architecture with data")
    return data


def unfit(
    bundle: Bundle, values: Mapping[str, Tensor], score: str, granularity: str, m: int
) -> dict[str, str]:
    """Layers that the score or the granularity does not fit, and why."""
    found: dict[str, str] = {}
    if granularity == "n:m":
        cut = {label: w.shape[1] for label, w in values.items() if w.shape[1] % m}
        found |= {label: f"its {inputs} inputs are no multiple of {m}" for label, inputs in cut.items()}
    if granularity == "kernel":
        found |= {label: "it has no kernels" for label, w in values.items() if w.dim() < 3}
    if score == "wanda" and bundle.arch.runs:
        found |= {label: UNMATCHED for label in values if label not in matching.matched(bundle.arch.key)}
    if score == "batch-norm":
        scales = normal_scales(bundle)
        found |= {label: "no batch-norm is behind it" for label in values if label not in scales}
    return found


def normal_scales(bundle: Bundle) -> dict[str, Tensor]:
    """Layer -> scale of the batch-norm that its output goes into, (outputs,)."""
    if not bundle.arch.runs:
        raise SlimscopeError("score 'batch-norm' must know what is behind a layer: it needs an architecture")
    behind = taps.normal_behind(bundle.arch)
    return {layer: bundle.params[f"{name}.weight"].decode() for layer, name in behind.items()}
