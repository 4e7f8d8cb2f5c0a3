"""Each technique on nets of no zoo: it runs, is packed and rebuilt, or refuses for a known reason."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import own_models
import pytest
import torch

import engine.techniques  # noqa: F401  (fills the registry)
from engine.data import user
from engine.figures import measure
from engine.file import packfile
from engine.net import sources
from engine.recipe import run
from engine.recipe.knobs import Choice
from engine.recipe.technique import REGISTRY, Step, Technique
from engine.types import SlimscopeError

HERE = Path(__file__).parent
SHARE = 0.75
MATRIX: dict[str, dict[str, str]] = json.loads((HERE / "matrix.json").read_text())
SMALL = {
    "epochs": 1,
    "paraphraser_epochs": 1,
    "rounds": 1,
    "steps": 100,
    "samples": 500,
    "designs": 3,
    "start": "seed",
    "energy": 0.5,
    "residual": True,
}


@pytest.fixture(autouse=True)
def named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv(user.VARIABLE, "")
    monkeypatch.chdir(HERE.parent)


def opened(kind: str) -> None:
    sources._nets.clear()
    user.tasks.clear()
    factory = kind.replace(" ", "_").replace("-", "_").lower()
    code = f"tests/own_models.py:{factory}"
    user.name(code, f"{code}_data", student=f"{code}_student")


def test_the_matrix_has_every_technique_and_most_of_it_runs() -> None:
    assert set(MATRIX) == set(REGISTRY)
    assert all(set(row) == set(own_models.KINDS) for row in MATRIX.values())
    said = [why for row in MATRIX.values() for why in row.values()]
    assert sum(not why for why in said) >= SHARE * len(said)


def allows(known: Technique, name: str, value: Any) -> bool:
    knob = known.knobs.get(name)
    return knob is not None and (not isinstance(knob, Choice) or value in knob.options)


BEFORE = {"recalibrate": Step("quantize", {"bits": 3})}  # what is brought back has to be lost first


@pytest.mark.parametrize("kind", own_models.KINDS)
@pytest.mark.parametrize("technique", MATRIX)
def test_a_technique_on_a_net(technique: str, kind: str) -> None:
    opened(kind)
    bundle, known = sources.load_user(), REGISTRY[technique]
    data = sources.data(bundle.arch)
    settings = {name: value for name, value in SMALL.items() if allows(known, name, value)}
    if technique in BEFORE:
        bundle, _ = run.apply(bundle, BEFORE[technique], data)
    why = MATRIX[technique][kind]
    if why:
        with pytest.raises(SlimscopeError) as caught:
            run.apply(bundle, Step(technique, settings), data)
        assert why in str(caught.value)
        assert "Error:" not in str(caught.value)
        return
    after, _ = run.apply(bundle, Step(technique, settings), data)
    assert after.fingerprint != bundle.fingerprint
    again = packfile.unpack(packfile.pack(after))
    assert again.fingerprint == after.fingerprint
    assert torch.equal(measure.predictions(again, data.test), measure.predictions(after, data.test))


INSPECT = """
import os, sys
from engine import cli
from engine.data import user
for named, path in zip(sys.argv[1::2], sys.argv[2::2]):
    os.environ[user.VARIABLE] = named
    cli.main(["inspect", path, "--answers", "--json"])
    print("|")
"""


def test_a_fresh_process_rebuilds_each_with_the_same_answers(tmp_path: Path) -> None:
    words, expected = [], []
    for kind in own_models.KINDS:
        opened(kind)
        bundle = sources.load_user()
        data = sources.data(bundle.arch)
        for step in (Step("low_rank", {"energy": 0.5}), Step("quantize", {"bits": 5})):
            bundle = run.apply(bundle, step, data)[0]
        path = tmp_path / f"{kind}.slim"
        path.write_bytes(packfile.pack(bundle))
        words += [os.environ[user.VARIABLE], str(path)]
        expected.append((bundle.fingerprint, measure.predictions(bundle, data.test).tolist()))
    command = [sys.executable, "-c", INSPECT, *words]
    done = subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True, check=True)
    found = [json.loads(text) for text in done.stdout.split("|\n")[:-1]]
    assert [(each["fingerprint"], each["answers"]) for each in found] == expected
