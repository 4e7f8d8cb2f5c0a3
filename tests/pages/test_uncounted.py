"""Nets whose multiply-adds are not all in a layer, or not known: the page says so, and all else works."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from engine import cli
from engine.data import user
from engine.figures import count, latency, measure
from engine.file import packfile
from engine.net import kinds, sources
from engine.types import Bundle, SlimscopeError
from pages.parts import cached, jobs

ROOT = Path(__file__).resolve().parent.parent.parent
CODE = """
import torch
from torch import nn

class Known(nn.Module):
    def __init__(self):
        super().__init__()
        self.tokens, self.attention = nn.Embedding(20, 16), nn.MultiheadAttention(16, 2, batch_first=True)
        self.out = nn.Linear(16, 20, bias=False)
        self.out.weight = self.tokens.weight

    def forward(self, x):
        x = self.tokens(x)
        return self.out(self.attention(x, x, x)[0].mean(1))

class Unknown(nn.Module):
    def __init__(self):
        super().__init__()
        self.tokens, self.mixing = nn.Embedding(20, 16), nn.Parameter(torch.randn(16, 16) / 4)
        self.out = nn.Linear(16, 3)

    def forward(self, x):
        return self.out(torch.relu(self.tokens(x).mean(1) @ self.mixing))

def data():
    torch.manual_seed(2)
    inputs = [torch.randint(20, (n, 7)) for n in (60, 30, 40)]
    return tuple(torch.utils.data.TensorDataset(x, x.sum(1) % 3) for x in inputs)
"""
pytestmark = pytest.mark.usefixtures("framed")


@pytest.fixture
def brought(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv(user.VARIABLE, "")
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(jobs, "measure_all", lambda *args: None)
    (tmp_path / "uncounted.py").write_text(CODE)
    cached.given.clear()
    yield tmp_path / "uncounted.py"
    cached.given.clear()
    sources._nets.clear()
    user.forget()


def named(path: Path, factory: str) -> Bundle:
    user.name(f"{path}:{factory}", f"{path}:data")
    return sources.load_user()


def overview(bundle: Bundle) -> AppTest:
    at = AppTest.from_file(str(ROOT / "app.py"), default_timeout=120)
    at.query_params["m"] = f"user-{bundle.fingerprint}"
    at.switch_page("pages/overview.py").run()
    assert [f"{e.message}\n{''.join(e.stack_trace)}" for e in at.exception] == []
    return at


def test_the_overview_of_a_tied_transformer_has_every_mac(brought: Path) -> None:
    bundle = named(brought, "Known")
    table = cached.layers(f"user-{bundle.fingerprint}", "[]")
    macs = dict(zip(table["layer"], table["macs"], strict=True))
    projections = 7 * 16 * 16
    assert macs == {
        "tokens": 20 * 16,  # the classifier is the embedding: the look-up multiplies nothing
        "attention.in_proj_weight": 3 * projections,
        "attention.out_proj": projections,
    }
    between = 2 * 7 * 7 * 16
    assert sum(macs.values()) + between == count.macs(bundle).value
    captions = [caption.value for caption in overview(bundle).caption]
    assert any(f"{between:,} more MACs multiply two activations" in text for text in captions)


def test_a_net_of_an_unknown_kind_is_shown_without_macs(brought: Path) -> None:
    bundle = named(brought, "Unknown")
    with pytest.raises(SlimscopeError, match="'model' \\(Unknown\\) are not known"):
        count.macs(bundle)
    assert "macs" not in cached.layers(f"user-{bundle.fingerprint}", "[]")
    captions = [caption.value for caption in overview(bundle).caption]
    assert any("Multiply-adds are not counted" in text and "'mixing'" in text for text in captions)


def test_its_accuracy_and_latency_do_not_need_them(brought: Path) -> None:
    bundle = named(brought, "Unknown")
    assert kinds.work(bundle) > 16 * 16  # an estimate of time sees the product that nobody may count
    assert measure.accuracy(bundle, sources.data(bundle.arch).test).spread is not None
    assert latency.name_of(bundle, bundle) == "This model"
    assert latency.seconds(bundle, bundle).value > 0


def test_a_file_of_it_is_inspected_with_a_note(
    brought: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = named(brought, "Unknown")
    (tmp_path / "net.slim").write_bytes(packfile.pack(bundle))
    names = ["--model", f"{brought}:Unknown", "--data", f"{brought}:data"]
    cli.main(["inspect", str(tmp_path / "net.slim"), *names])
    said = capsys.readouterr().out
    assert "note: the multiply-adds of 'model' (Unknown) are not known" in said
    assert " MAC " not in said
