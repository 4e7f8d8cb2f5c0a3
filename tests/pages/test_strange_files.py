"""Files that are strange but sound are shown on every page, and none can hold a visit up."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from safetensors.torch import save
from visiting import PAGES, PRUNED, SMALL, Visit, upload

from engine.file import intake, packfile
from engine.jobs import layerwise, models
from engine.net import zoo
from engine.tensor import grids
from engine.tensor.formats import Codebook, Dense
from engine.tensor.granularity import per_group
from engine.types import Arch, Bundle, Recipe, Step
from pages.parts import cached, jobs

pytestmark = pytest.mark.usefixtures("framed")


@pytest.fixture(autouse=True)
def no_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "measure_all", lambda *args: None)


def strange() -> dict[str, torch.Tensor]:
    """Names and numbers that a page might stumble over."""
    return {
        "<script>alert(1)</script>": torch.eye(3),
        "**a** $x$ | `b`.weight": torch.zeros(4, 4),
        "\n": torch.full((2, 2), 1e-45),
        "large.weight": torch.full((3, 3), 1e12),
        "one": torch.ones(1, 1),
        "scalar": torch.tensor(2.0),
        "deep": torch.ones([1] * 8),
        "n" * 300: torch.ones(2, 3),
    }


def packed() -> bytes:
    """The same in the other formats, under a recipe of an unusual kind."""
    params: dict[str, Any] = {name: Dense(tensor) for name, tensor in strange().items()}
    params["grid"] = grids.quantize(torch.zeros(3, 4), 1)
    params["groups"] = grids.quantize(torch.linspace(0, 1, 12).reshape(3, 4), 16, granularity=per_group(999))
    params["book"] = Codebook(torch.zeros(2, 2, dtype=torch.int32), torch.tensor([-0.0, 5.0]))
    return packfile.pack(Bundle(Arch("bare"), params, None, Recipe((Step("quantize", on=False),))))


RECIPES = {  # what is in the recipe -> the pages on which it differs from an empty one
    "[]": PAGES,
    PRUNED: ("overview", "prune", "tradeoffs"),
    '[["quantize",{"bits":4}]]': ("overview", "quantize", "tradeoffs"),
    '[["low_rank",{"by":"rank","rank":1}]]': ("overview", "low_rank", "tradeoffs"),
}
FILES = {"strange.safetensors": lambda: save(strange()), "strange.slim": packed}


@pytest.mark.parametrize("name", list(FILES))
def test_strange_files_are_shown_on_every_page(name: str) -> None:
    visit = upload(Visit(m=SMALL, r="[]"), name, FILES[name]())
    assert visit.link["m"].startswith("file-")
    for recipe, pages in RECIPES.items():
        visit.at.query_params["r"] = recipe
        for page in pages:
            visit.open(page)
            assert "<script>alert" not in visit.html


@pytest.mark.parametrize(
    ("page", "step"), [("prune", "prune_weights"), ("quantize", "quantize"), ("formats", "number_format")]
)
def test_every_strange_layer_has_its_pictures(page: str, step: str) -> None:
    visit = upload(Visit(page, m=SMALL, r=PRUNED), "strange.slim", packed())
    visit.at.query_params["r"] = f'[["{step}",{{}}]]'
    visit.open(page)
    box = next(box for box in visit.at.selectbox if str(box.key).startswith("layer-"))
    assert len(box.options) == 10
    for label in box.options:
        visit.set("selectbox", str(box.key), label)
        assert not visit.at.error


def test_a_net_of_very_many_layers_shows_the_first() -> None:
    state = {f"w{i}": torch.ones(1, 2) for i in range(121)}
    visit = upload(Visit(m=SMALL, r="[]"), "deep.safetensors", save(state))
    visit.open_fold("histograms")
    assert "The first 120 of 121 layers." in visit.words


def test_a_file_that_fails_in_a_new_way_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise ZeroDivisionError("in a new way")

    visit = Visit(m=SMALL, r="[]")
    with monkeypatch.context() as patch:
        patch.setattr(intake, "read", fails)
        visit.at.file_uploader[0].set_value(("a.pt", b"x", "application/octet-stream"))
        visit.at.run()
        assert "in a new way" in visit.at.exception[0].message
        visit.run()  # without an error: the file is not read again
    assert visit.tiles["parameters"] > 0


def test_a_model_that_fails_on_every_page_can_be_left(monkeypatch: pytest.MonkeyPatch) -> None:
    visit = upload(Visit(m=SMALL, r="[]"), "a.safetensors", save({"v.weight": torch.eye(7)}))
    model = visit.link["m"]

    def fails(name: str, *said: str) -> Bundle:
        if name == model:
            raise ZeroDivisionError("this model can't be read")
        return found(name, *said)

    found = models.get_model
    monkeypatch.setattr(models, "get_model", fails)
    for memory in (cached.original, cached.states._at_once, cached.is_large):
        memory.clear()
    monkeypatch.setattr(layerwise, "is_large", lambda bundle: False)
    for page in PAGES:
        visit.at.switch_page(f"pages/{page}.py").run()
        assert "this model can't be read" in visit.at.exception[0].message
        assert zoo.entry(SMALL).title in visit.at.selectbox(key="pick").options
    visit.at.selectbox(key="pick").set_value(SMALL)
    visit.run()
    assert visit.link["m"] == SMALL
