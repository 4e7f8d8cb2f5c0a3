"""`slimscope export --onnx`: the file that was run is the file on disk, and what can't be one is one line."""

from __future__ import annotations

import json
from pathlib import Path

import onnxruntime
import pytest
from test_cli import call, fails

from engine.data import sets, user
from engine.figures import measure
from engine.figures.latency import stopwatch
from engine.file.onnx_file import running

STATIC = '[["quantize",{"activations":"static"}]]'


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopwatch, "WARM_UP", 1)


def test_the_file_on_disk_has_the_printed_figures(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    printed = json.loads(call(capsys, "export", "mlp-32", "--recipe", STATIC, "--onnx", str(path), "--json"))
    figures = {figure["name"]: figure for figure in printed["figures"]}
    assert figures["ONNX file"]["value"] == path.stat().st_size
    test = sets.load("mnist").test
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    answers = running.answer(session, test.inputs()).argmax(1)
    assert figures["accuracy"] == measure.accuracy_of(answers, test.labels).to_dict()
    assert printed["integers"] == ["fc1", "fc2"]
    assert "this processor has" in printed["why"]
    assert list(tmp_path.iterdir()) == [path]


def test_its_text_says_what_runs_on_integers(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = str(tmp_path / "m.onnx")
    said = call(capsys, "export", "mlp-32", "--recipe", STATIC, "--onnx", path, "--unsigned", "--batch", "4")
    assert "Layers that multiply 8-bit integers: fc1, fc2." in said
    assert "Inputs and weights are unsigned codes" in said
    assert "batch 4" in said


OWN = """
import torch
from torch import nn

class Strange(nn.Module):
    def __init__(self):
        super().__init__()
        self.out = nn.Linear(6, 4)

    def forward(self, x):
        return self.out(torch.special.bessel_j0(x))

def model():
    return Strange()

def data():
    part = torch.utils.data.TensorDataset(torch.randn(8, 6), torch.arange(8) % 4)
    return part, part, part
"""


def test_what_can_t_be_a_file_is_refused_in_a_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "strange.py"
    own.write_text(OWN)
    path = str(tmp_path / "m.onnx")
    monkeypatch.chdir(tmp_path)
    try:
        words = ("--model", "strange.py:model", "--data", "strange.py:data", "--recipe", "[]", "--onnx", path)
        assert "can't be written as ONNX: " in fails(capsys, "export", *words)
    finally:
        user.name("", "")
    assert not Path(path).exists()
    weights = str(tmp_path / "w.safetensors")
    from safetensors.torch import save_file
    from torch import ones

    save_file({"w": ones(3, 3)}, weights)
    assert "needs a known architecture with data" in fails(
        capsys, "export", weights, "--recipe", "[]", "--onnx", path
    )
