"""How a model is trained, as a value: epochs, rates along a schedule, batches, what happens to images."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from torch import nn

from engine.data.sets import Samples
from engine.net.train.rewording import Rewording

MASKED = 0.2  # of the word pieces of a text, each time it is seen: as the transformer was trained


@dataclass(frozen=True)
class Plan:
    """How a net is trained. `schedule`: `one-cycle` (warm up, then cosine to zero), `cosine` or `constant`.

    `shift` moves each image by up to that many pixels, `flip` mirrors half of them. `mask_words` makes
    each word piece of a text an unknown one with this chance (Tang 2019, arXiv 1903.12136, section 3.1);
    `rewording` does that and more in its place.
    `small_epochs` first epochs see the images at 3/4 of their size, which costs half the time.
    The `last_epochs` of all are a second, smaller cycle (Loshchilov 2017): a cosine from `last_rate` to zero.
    `precision` `bfloat16` multiplies in 16 bits; weights, sums of gradients and the loss stay in 32.
    """

    epochs: int
    learning_rate: float
    optimizer: str = "sgd"
    schedule: str = "one-cycle"
    batch: int = 128
    weight_decay: float = 5e-4
    clip_norm: float | None = None
    shift: int = 0
    flip: bool = False
    mask_words: float = 0.0
    rewording: Rewording | None = None
    small_epochs: int = 0
    last_epochs: int = 0
    last_rate: float = 0.0
    channels_last: bool = False
    precision: str = "float32"
    seed: int = 0

    def rate(self, done: float) -> float:
        """Learning rate when the share `done` (0..1) of the run is over.

        >>> Plan(10, 0.2, schedule="cosine").rate(0.5)
        0.1
        """
        first = 1 - self.last_epochs / self.epochs
        if self.last_epochs and done >= first:
            return self.last_rate * 0.5 * (1 + math.cos(math.pi * (done - first) / (1 - first)))
        done /= first
        match self.schedule:
            case "constant":
                return self.learning_rate
            case "cosine":
                return self.learning_rate * 0.5 * (1 + math.cos(math.pi * done))
            case "one-cycle":
                warm = 0.25
                if done < warm:
                    return self.learning_rate * (0.04 + 0.96 * done / warm)
                return self.learning_rate * 0.5 * (1 + math.cos(math.pi * (done - warm) / (1 - warm)))
        raise ValueError(f"schedule {self.schedule!r} is not one of one-cycle, cosine, constant")


def suited(plan: Plan, net: nn.Module, samples: Samples, digits: int = 1) -> Plan:
    """The plan with what this net and these images need.

    Recurrent nets get their gradients clipped (they explode over 28 steps now and then). Colour photos are
    shifted by up to 4 pixels and mirrored, digits shifted by up to `digits`: the zoo was trained with one.
    Words of a text are masked. A user's inputs stay as they are.
    """
    recurrent = any(isinstance(module, nn.RNNBase) for module in net.modules())
    if not samples.mean:  # of a user's inputs nobody said what may be done to them
        plain = replace(plan, clip_norm=1.0 if recurrent else None, shift=0, flip=False, channels_last=False)
        return replace(plain, clip_norm=1.0, mask_words=MASKED) if samples.is_text else plain
    photos = samples.images.shape[1] == 3
    return replace(
        plan,
        clip_norm=1.0 if recurrent else None,
        shift=4 if photos else digits,
        flip=photos,
        channels_last=photos,
    )
