"""The training kit: a plan, a loss, and one loop that trains a model and whatever learns beside it."""

from engine.net.train.augment import augment
from engine.net.train.features import attending_as, attention
from engine.net.train.kit import Part, zero_masks
from engine.net.train.loop import Project, Prune, Watch, fit
from engine.net.train.losses import (
    Loss,
    distillation_loss,
    hard_labels,
    learning_from,
    log_shares,
    regressing_on,
    softened,
    together,
)
from engine.net.train.on_format import by_format, stored, train_on
from engine.net.train.on_inputs import stored_steps, train_inputs
from engine.net.train.plan import Plan, suited
from engine.net.train.rewording import Rewording

__all__ = [
    "Loss",
    "Part",
    "Plan",
    "Project",
    "Prune",
    "Rewording",
    "Watch",
    "attending_as",
    "attention",
    "augment",
    "by_format",
    "distillation_loss",
    "fit",
    "hard_labels",
    "learning_from",
    "log_shares",
    "regressing_on",
    "softened",
    "stored",
    "stored_steps",
    "suited",
    "together",
    "train_inputs",
    "train_on",
    "zero_masks",
]
