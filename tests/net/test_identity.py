"""Two models are one where nothing tells their outputs apart, in this process and in any other."""

import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import engine
from engine.net import identity, sources
from engine.types import SlimscopeError

ROOT = Path(__file__).resolve().parent.parent.parent

CELL = """
def helper(x):
    return {helper}

def closed(factor):
    return lambda x: factor * x

class Net(nn.Module):
    scale = {scale}
    def __init__(self):
        super().__init__()
        self.kind, self.last = {kind}, {last}
        self.first, self.out = nn.Linear(6, 5), nn.Linear(5, 3)
        self.register_buffer("order", {order})
        self.register_buffer("shift", {shift}, persistent=False)
        if {hooked}:
            self.first.register_forward_hook(lambda module, args, output: -output)
    def forward(self, x):
        x = {act}(self.first(x))[:, self.order] * self.scale + self.shift
        return self.out(self.last(helper(x)))
"""
USUAL = {
    "act": "torch.relu",
    "helper": "x",
    "scale": "1.0",
    "kind": "dict(a=1)",
    "last": "closed(2)",
    "order": "torch.arange(5)",
    "shift": "torch.zeros(5)",
    "hooked": "False",
}


def cell(**what: str) -> nn.Module:
    """A model of a class that only a cell defines."""
    names: dict[str, Any] = {"__name__": "__main__", "torch": torch, "nn": nn}
    exec(CELL.format(**{**USUAL, **what}), names)
    torch.manual_seed(0)
    net: nn.Module = names["Net"]()
    return net


@pytest.mark.parametrize(
    "what",
    [
        {"act": "torch.cos"},
        {"act": "3 * torch.relu"},
        {"helper": "x + 1"},
        {"scale": "2.0"},
        {"kind": "dict(a=2)"},
        {"kind": "[('a', 1)]"},
        {"last": "closed(3)"},
        {"last": "torch.sin"},
        {"last": "nn.functional.gelu"},
        {"last": "nn.ReLU()"},
        {"last": "__import__('functools').partial(torch.clamp, min=0)"},
        {"order": "torch.arange(5).flip(0)"},
        {"shift": "torch.ones(5)"},
        {"hooked": "True"},
    ],
    ids=str,
)
def test_what_may_change_outputs_makes_another_model(what: dict[str, str]) -> None:
    usual, again, other = cell(), cell(), cell(**what)
    first, second, third = (sources.adopt(net)[0] for net in (usual, again, other))
    assert first.fingerprint == second.fingerprint != third.fingerprint
    assert first.arch.name == second.arch.name != third.arch.name


Pair = tuple[Callable[[], nn.Module], Callable[[], nn.Module]]
SETTINGS: list[Pair] = [
    (lambda: nn.Conv2d(2, 2, 3), lambda: nn.Conv2d(2, 2, 3, dilation=3)),
    (lambda: nn.Conv2d(2, 2, 3), lambda: nn.Conv2d(2, 2, 3, padding="same")),
    (lambda: nn.Conv2d(2, 2, 3, padding=1), lambda: nn.Conv2d(2, 2, 3, padding=1, padding_mode="circular")),
    (lambda: nn.BatchNorm2d(2), lambda: nn.BatchNorm2d(2, eps=0.1)),
    (lambda: nn.Conv2d(2, 2, 1), lambda: nn.Conv2d(2, 2, 1).requires_grad_(False)),
    (lambda: nn.LeakyReLU(0.1), lambda: nn.LeakyReLU(0.2)),
]


@pytest.mark.parametrize(("one", "other"), SETTINGS)
@pytest.mark.parametrize("by_file", [True, False])
def test_settings_of_torchs_own_modules_count(
    one: Callable[[], nn.Module], other: Callable[[], nn.Module], by_file: bool
) -> None:
    found = [identity.settings_of(nn.Sequential(make()), by_file) for make in (one, one, other)]
    assert found[0] == found[1] != found[2]


def test_training_and_running_a_model_do_not_change_it() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.GRU(3, 3))
    before = identity.settings_of(net, False)
    net[:2].train()(torch.ones(2, 1, 5, 5))
    net.eval()
    assert identity.settings_of(net, False) == before


def test_a_model_that_holds_itself_or_what_nobody_can_copy_has_an_identity() -> None:
    def made() -> nn.Module:
        net = nn.Sequential(nn.Linear(2, 2))
        net.__dict__["holds"] = [net, threading.Lock(), (n for n in ())]
        return net

    assert identity.settings_of(made(), False) == identity.settings_of(made(), False)
    assert identity.settings_of(made(), False) != identity.settings_of(nn.Sequential(nn.Linear(2, 2)), False)


class Angle(nn.Module):
    """Its function is an attribute."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.a, self.b = kind, nn.Linear(6, 40), nn.Linear(40, 4)

    def forward(self, x: Tensor) -> Tensor:
        if self.kind == "none":
            raise SystemExit(3)
        return self.b(getattr(torch, self.kind)(3 * self.a(x)))  # type: ignore[no-any-return]


def test_figures_are_of_the_model_that_was_given() -> None:
    torch.manual_seed(0)
    models = {kind: Angle(kind) for kind in ("none", "relu", "cos")}
    for model in models.values():
        model.load_state_dict(models["cos"].state_dict())
    inputs = torch.randn(200, 6)
    with torch.no_grad():
        labels = models["cos"](inputs).argmax(1)
        right = float((models["relu"](inputs).argmax(1) == labels).float().mean())
    part = TensorDataset(inputs, labels)
    with pytest.raises(SlimscopeError, match=r"test_identity\.py:\d+: SystemExit: 3"):
        engine.compress(models["none"], "[]", part, part, part)
    for kind, expected in (("relu", right), ("cos", 1.0)):
        figures = engine.compress(models[kind], "[]", part, part, part)[1]
        assert {f.name: f.value for f in figures}["accuracy"] == pytest.approx(expected)
    assert right < 0.9


BROUGHT = """
import functools, torch
from torch import nn
LEVELS = {"low", "high", "none"}
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.levels, self.table = frozenset(LEVELS), {"x": [1, 2.5, None, torch.float16]}
        self.act = functools.partial(lambda x, low: x.clamp(min=low) if low not in {"a", "b"} else x, low=0)
        self.a, self.b = nn.Linear(4, 4), nn.TransformerEncoderLayer(4, 2, 8)
        self.norm = nn.utils.parametrizations.weight_norm(nn.Linear(4, 4))
        self.a.register_forward_hook(lambda module, args, output: self.act(output))
    def forward(self, x):
        return self.b(self.a(x))
def model():
    torch.manual_seed(0)
    return Net()
"""
ASKS = """
import brought, torch
from engine.data import user
from engine.net import sources
class Own(brought.Net):
    def forward(self, x):
        return x if x.dim() in {"p", "q", 3} else super().forward(x)
user.name("brought:model")
print(sources.load_user().arch.key, sources.load_user().fingerprint)
torch.manual_seed(0)
print(sources.adopt(Own())[2])
"""


def test_equal_models_of_two_processes_have_one_identity(tmp_path: Path) -> None:
    (tmp_path / "brought.py").write_text(BROUGHT)
    said = set()
    for seed in ("1", "2"):  # of the order of sets
        told = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": seed}
        command = [sys.executable, "-c", textwrap.dedent(ASKS)]
        done = subprocess.run(command, cwd=tmp_path, env=told, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        said.add(done.stdout)
    assert len(said) == 1
    assert '"settings"' in said.pop()
