"""A net of this process: compressed into a plain one, and opened in pages of a process of their own."""

import os
import subprocess
import sys
import textwrap
import urllib.request
from pathlib import Path

import nbclient
import nbformat
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import engine
from engine.types import Basis, SlimscopeError

ROOT = Path(__file__).resolve().parent.parent


class Sum(nn.Module):
    """Two branches and a sum."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.out = nn.Linear(5, 16), nn.Linear(5, 16), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.relu(self.left(x)) + torch.tanh(self.right(x)))  # type: ignore[no-any-return]


def parts() -> list[TensorDataset]:
    torch.manual_seed(0)
    inputs = [torch.randn(n, 5) for n in (90, 40, 60)]
    return [TensorDataset(x, x[:, :3].argmax(1)) for x in inputs]


def test_compress_gives_a_plain_net_and_its_figures() -> None:
    torch.manual_seed(3)
    model, data = Sum(), parts()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    recipe = [["prune_weights", {"sparsity": 0.5}], ["finetune", {"epochs": 1}]]
    smaller, figures = engine.compress(model, recipe, *data)
    assert type(smaller) is Sum
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    said = {figure.name: figure for figure in figures}
    inputs, labels = data[2].tensors
    with torch.no_grad():
        right = float((smaller(inputs).argmax(1) == labels).float().mean())
    assert said["accuracy"].value == pytest.approx(right)
    assert said["accuracy"].basis is Basis.MEASURED
    zeros = sum(int((p == 0).sum()) for p in smaller.parameters() if p.dim() == 2)
    assert said["sparsity"].value == pytest.approx(zeros / 208)


def test_without_data_what_must_run_the_net_is_refused() -> None:
    smaller, figures = engine.compress(Sum(), '[["quantize",{"bits":4}]]')
    assert [figure.name for figure in figures] == ["file size", "parameters", "sparsity"]
    assert len(torch.unique(smaller.out.weight.detach()[0])) <= 16
    with pytest.raises(SlimscopeError, match="no data are known"):
        engine.compress(Sum(), '[["finetune",{"epochs":1}]]')


def test_a_metric_judges_what_has_no_classes() -> None:
    def closeness(outputs: Tensor, targets: Tensor) -> Tensor:
        return -(outputs[:, 0] - targets).square()

    data = [TensorDataset(part.tensors[0], part.tensors[0].sum(1)) for part in parts()]
    with pytest.raises(SlimscopeError, match="name a --metric"):
        engine.compress(Sum(), "[]", *data)
    smaller, figures = engine.compress(Sum(), "[]", *data, metric=closeness)
    with torch.no_grad():
        expected = float(closeness(smaller(data[2].tensors[0]), data[2].tensors[1]).mean())
    assert figures[-1].name == "closeness"
    assert figures[-1].value == pytest.approx(expected)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [((3, "[]"), "allowed is an nn.Module"), ((Sum(), [[object(), {}]]), "a recipe is a list")],
)
def test_what_is_no_model_or_recipe_is_refused(wrong: tuple[object, object], says: str) -> None:
    with pytest.raises(SlimscopeError, match=says):
        engine.compress(*wrong)  # type: ignore[arg-type]


def test_importing_engine_imports_nothing_heavy() -> None:
    code = "import engine, sys; assert 'torch' not in sys.modules and 'streamlit' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_explore_opens_a_class_that_only_a_notebook_has(tmp_path: Path) -> None:
    cell = textwrap.dedent("""
        import json, os, subprocess, sys, torch, urllib.request
        import engine
        from torch import nn

        class Cell(nn.Module):
            def __init__(self):
                super().__init__()
                self.a, self.b = nn.Linear(4, 8), nn.Linear(8, 2)
            def forward(self, x):
                return self.b(torch.relu(self.a(x)))

        x = torch.randn(300, 4)
        part = torch.utils.data.TensorDataset(x, (x[:, 0] > 0).long())
        address = engine.explore(Cell(), part, part, part)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        assert opener.open(address + "/ready").read() == b"ready"
        page = opener.open(address).read().decode()
        assert "<title>" in page

        # What the server and its workers do with it, in a process of its own.
        from engine.data import user
        from pathlib import Path
        file = next(Path(os.environ["SLIMSCOPE_HOME"], "given").glob("*.pickle"))
        digest = file.stem.removeprefix("given-")
        work = '''
        from engine.jobs import tasks
        from engine.net import sources
        from engine.types import Progress
        bundle = sources.load_user()
        payload = {"model": "user-" + bundle.fingerprint, "recipe": '[["finetune",{"epochs":1}]]'}
        payload["data"] = sources.task(bundle.arch)
        tasks.perform("apply", payload, Progress())
        found = tasks.perform("accuracy", payload, Progress())
        print(found["figures"][0]["how"])
        '''
        import textwrap
        told = {**os.environ, user.VARIABLE: user.told_of(file, digest)}
        command = [sys.executable, "-c", textwrap.dedent(work)]
        done = subprocess.run(command, env=told, capture_output=True, text=True)
        assert "of 300 samples right" in done.stdout, done.stderr
        print("all well")
    """)
    (tmp_path / "cell.py").write_text(cell)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "SLIMSCOPE_HOME": str(tmp_path / "home")}
    done = subprocess.run(
        [sys.executable, str(tmp_path / "cell.py")],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip().endswith("all well"), done.stderr[-3000:]


def test_the_example_notebook_opens_the_pages_and_gets_a_smaller_net(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLIMSCOPE_HOME", str(tmp_path))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebook = nbformat.read(ROOT / "assets" / "examples" / "own_model.ipynb", as_version=4)
    checks = nbformat.v4.new_code_cell(CHECKS)
    client = nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(ROOT)}})
    with client.setup_kernel():
        for number, cell in enumerate(notebook.cells):
            client.execute_cell(cell, number)
        opened = next(
            cell for cell in notebook.cells if "engine.explore" in cell.source and cell.get("outputs")
        )
        address = opened.outputs[-1]["text"].strip()
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        assert opener.open(f"{address}/ready").read() == b"ready"
        notebook.cells.append(checks)
        client.execute_cell(checks, len(notebook.cells) - 1)
    assert checks.outputs[-1]["text"].strip() == "all well"


CHECKS = """
assert type(smaller) is Digits and not smaller.training
assert [layer.out_channels for layer in (smaller.look, smaller.each, smaller.mix)] == [12, 12, 24]
assert smaller.each.groups == 12
said = {figure.name: figure for figure in figures}
with torch.no_grad():
    right = (smaller(test.tensors[0]).argmax(1) == test.tensors[1]).float().mean()
assert abs(said["accuracy"].value - float(right)) < 1e-6 and right > 0.8
assert said["file size"].value < 4 * sum(p.numel() for p in model.parameters()) / 4
assert len(torch.unique(smaller.out.weight[0])) <= 64
print("all well")
"""
