"""Train the zoo: `python -m engine.net.zoo train NAME`; seeded, resumable, with a progress bar."""

from __future__ import annotations

import argparse
import json
import platform
import time
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import save_file
from tqdm import tqdm

from engine.data import sets
from engine.figures import count, measure
from engine.net import zoo
from engine.net.train import Plan, fit
from engine.types import Bundle, Figure, Progress

CIFAR_PLAN = Plan(
    44, 0.3, shift=4, flip=True, small_epochs=12, last_epochs=16, last_rate=0.1, channels_last=True
)
LSTM_PLAN = Plan(12, 3e-3, optimizer="adam", weight_decay=0.0, clip_norm=1.0, shift=1)
TEXT_PLAN = Plan(20, 1e-3, optimizer="adam", batch=64, weight_decay=0.0, clip_norm=1.0, mask_words=0.2)
TEXT_LSTM_PLAN = Plan(16, 4e-3, optimizer="adam", batch=64, weight_decay=0.0, clip_norm=1.0, mask_words=0.4)
PLANS = {
    "lenet-300-100": Plan(30, 0.08, shift=1, weight_decay=1e-4),
    "lenet-5": Plan(12, 0.04, shift=1),
    "resnet-20": CIFAR_PLAN,
    "vgg-small": Plan(30, 0.2, shift=4, flip=True, small_epochs=10, channels_last=True),
    "lstm-mnist": LSTM_PLAN,
    "mlp-500-300": Plan(20, 0.1, batch=256, shift=1, weight_decay=1e-4),
    "mlp-32": Plan(15, 0.08, weight_decay=1e-4),
    "lenet-5-small": Plan(8, 0.06),
    "resnet-8": Plan(14, 0.3, shift=4, flip=True, small_epochs=6, channels_last=True),
    "lstm-32": Plan(8, 3e-3, optimizer="adam", weight_decay=0.0, clip_norm=1.0),
    "transformer-topics": TEXT_PLAN,
    "bilstm-topics": TEXT_LSTM_PLAN,
}


def train(name: str, seed: int) -> None:
    """Train one net and write weights, initial weights and card; a stopped run is resumed."""
    plan = Plan(**{**asdict(PLANS[name]), "seed": seed})
    whole = sets.load_full(zoo.entry(name).data)
    net = zoo.seeded(name, seed)
    first = zoo.bundle_of(name, {n: t.clone() for n, t in net.state_dict().items()})
    zoo.MODELS.mkdir(parents=True, exist_ok=True)
    folder = sets.cache_folder() / "training"
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = folder / f"{name}-s{seed}.pt"
    started = time.time() - (_spent(checkpoint))

    with tqdm(total=1000, unit="permille", desc=name) as bar:

        def show(fraction: float, row: object) -> None:
            bar.n = round(1000 * fraction)
            bar.set_postfix(row if isinstance(row, dict) else {})
            (checkpoint.with_suffix(".seconds")).write_text(str(time.time() - started))

        rows = fit(
            net,
            whole.train,
            plan,
            watch=lambda n: {"validation accuracy": measure.share_right(n, whole.validation)},
            progress=Progress(show),
            checkpoint=checkpoint,
        )
    bundle = zoo.bundle_of(name, dict(net.state_dict()))
    accuracy = measure.accuracy(bundle, whole.test)
    save(name, bundle, "")
    save(name, first, ".initial")
    card = {
        "name": name,
        "title": zoo.entry(name).title,
        "about": zoo.entry(name).about,
        "data": whole.key,
        "test accuracy": accuracy.to_dict(),
        "validation accuracy": rows[-1]["validation accuracy"],
        "test use": "test was only reported: nothing was chosen by it",
        "parameters": _plain(count.parameters(bundle)),
        "macs": _plain(count.macs(bundle)),
        "plan": asdict(plan),
        "wall seconds": round(time.time() - started),
        "threads": torch.get_num_threads(),
        "machine": platform.machine(),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "command": f"python -m engine.net.zoo train {name} --seed {seed}",
        "licence": "CC0-1.0",
    }
    (zoo.MODELS / f"{name}.json").write_text(json.dumps(card, indent=1) + "\n")
    print(f"{name}: test accuracy {accuracy.value:.4f} {accuracy.spread}")


def save(name: str, bundle: Bundle, kind: str) -> None:
    state = {n: t.contiguous() for n, t in bundle.state().items()}
    save_file(state, zoo.MODELS / f"{name}{kind}.safetensors")


def _plain(figure: Figure) -> int:
    return int(figure.value)


def _spent(checkpoint: Path) -> float:
    path = checkpoint.with_suffix(".seconds")
    return float(path.read_text()) if checkpoint.exists() and path.exists() else 0.0


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m engine.net.zoo", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    command = verbs.add_parser("train", help="train one net of the zoo")
    command.add_argument("name", choices=list(PLANS))
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    train(given.name, given.seed)


if __name__ == "__main__":
    main()
