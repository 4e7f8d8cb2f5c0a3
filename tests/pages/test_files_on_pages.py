"""A visitor's own weights on the pages, without a browser: asked for what they are, refused, too large."""

from __future__ import annotations

import errno
import io
import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save
from visiting import (
    PAGES,
    PRUNED,
    SMALL,
    SOME_PAGES,
    STORY,
    Visit,
    assert_has_header_and_recipe,
    session_files,
    truth,
    upload,
    weights,
)

import engine.techniques  # noqa: F401  (fills the registry)
from engine.data import sets
from engine.figures import count, measure
from engine.file import packfile
from engine.jobs import home, layerwise, models, store, streaming
from engine.net import zoo
from engine.recipe import technique
from engine.recipe.run import run
from engine.types import Progress, Recipe
from pages.parts import cached, live, session

pytestmark = pytest.mark.usefixtures("framed", "no_job")


# ---------------------------------------------------------------- the visitor's own weights


def test_own_weights_that_fit_are_measured_once_it_is_said_what_they_are() -> None:
    visit = upload(Visit(m=SMALL, r=STORY), "mine.safetensors", save(weights()))
    assert visit.link["m"].startswith("file-")
    assert visit.recipe == Recipe()  # the first figures are those of the file as it is
    assert "accuracy" not in visit.tiles
    for said in (zoo.entry(SMALL).title, "ReLU", "MNIST", "minus 0.1307, divided by 0.3081"):
        assert said in visit.html + visit.words
    visit.click("proposal-yes")
    assert visit.tiles["accuracy"] == truth(SMALL, "[]")["accuracy"]
    assert "guessing" not in visit.words
    visit.click("undo")
    assert visit.link["m"] == SMALL
    assert visit.recipe.key == STORY


def random_net(hidden: tuple[str, ...] = ("fc1", "fc2", "fc3")) -> bytes:
    """A net of 784-300-100-10 units that its owner runs with tanh, on data of its own."""
    source = torch.Generator().manual_seed(5)
    widths, state = (784, 300, 100, 10), {}
    for name, inputs, outputs in zip(hidden, widths[:-1], widths[1:], strict=True):
        state[f"{name}.weight"] = torch.randn(outputs, inputs, generator=source) / inputs**0.5
        state[f"{name}.bias"] = torch.zeros(outputs)
    return save(state)


@pytest.mark.parametrize(
    ("names", "pages"), [(("fc1", "fc2", "fc3"), PAGES), (("0", "2", "4"), ["prune", "tradeoffs"])]
)
def test_a_net_that_only_looks_like_one_of_the_zoo_has_no_accuracy_before_its_owner_says_so(
    names: tuple[str, ...], pages: Sequence[str]
) -> None:
    visit = upload(Visit(m=SMALL, r="[]"), "tanh.safetensors", random_net(names))
    for page in pages:
        visit.open(page)
        assert "accuracy" not in visit.tiles
        assert "Is this file LeNet-300-100?" in visit.words
        assert not re.search(r"[\d.]+ % right|n = 10,000", visit.html + visit.words)
    visit.open("overview").click("proposal-yes")
    assert 0.02 < visit.tiles["accuracy"] < 0.2
    assert "guessing in 10 %" in visit.words
    visit.click("ask-again")
    assert "accuracy" not in visit.tiles
    visit.click("proposal-no")
    assert "accuracy" not in visit.tiles
    assert "Is this file" not in visit.words
    assert "weights only" in visit.words


def test_a_published_net_is_asked_for_its_scaling_and_measured() -> None:
    state = {n.replace("fc.", "linear."): t for n, t in zoo.seeded("resnet-32", 1).state_dict().items()}
    visit = upload(Visit(m=SMALL, r="[]"), "resnet32.th", pickled({"state_dict": state}))
    assert "Is this file ResNet-32?" in visit.words
    visit.click("proposal-yes")
    for page in SOME_PAGES:
        assert "accuracy" in visit.open(page).tiles


def test_other_names_are_shown_with_what_they_are_taken_for() -> None:
    visit = upload(Visit(m=SMALL, r="[]"), "sequence.safetensors", random_net(("0", "2", "4")))
    assert "<td>2.weight</td><td class='text'>fc2.weight</td><td>100 x 300</td>" in visit.html
    visit.click("proposal-yes")
    assert list(cached.layers(session_subject(visit), "[]")["layer"]) == ["fc1", "fc2", "fc3"]


def session_subject(visit: Visit) -> str:
    model = visit.link["m"]
    return cached.subject(model, visit.at.session_state["files"][model]["data"])


def test_inputs_that_were_scaled_otherwise_are_measured_so() -> None:
    visit = upload(Visit(m=SMALL, r="[]"), "mine.safetensors", save(weights()))
    model = visit.link["m"]
    visit.click("proposal-other")
    visit.set("radio", f"proposal-scale-{model}", "own")
    visit.set("number_input", f"mean-{model}-0", 0.5).set("number_input", f"deviation-{model}-0", 0.25)
    visit.click("proposal-scaled")
    data = sets.load("mnist").standardised((0.5,), (0.25,))
    expected = measure.accuracy(zoo.load(SMALL), data.test).value
    assert visit.tiles["accuracy"] == pytest.approx(expected, abs=1e-12)
    assert visit.link["d"] == "mnist@0.5/0.25"


def test_a_link_keeps_what_its_visitor_said_and_says_nothing_for_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mine = upload(Visit(m=SMALL, r="[]"), "mine.safetensors", save(weights()))
    mine.click("proposal-yes")
    link = mine.link
    assert link["d"] == "mnist"
    mine.click("ask-again")
    assert "d" not in mine.link
    for name, value in link.items():
        mine.at.query_params[name] = value
    assert "accuracy" not in mine.run().tiles, "a request may still say the link of before"
    for name, value in link.items():
        mine.at.query_params[name] = value
    with monkeypatch.context() as patch:
        patch.setattr(session, "_went_back", lambda: True)
        assert "accuracy" in mine.run().tiles

    other = Visit(**{**link, "d": "mnist@0.5/0.5"})
    assert "upload the file" in other.words
    upload(other, "same.safetensors", save(weights()))
    assert other.link["m"] == link["m"]
    assert "accuracy" not in other.tiles
    assert "minus 0.5, divided by 0.5" in other.words
    other.click("proposal-link")
    assert other.link["d"] == "mnist@0.5/0.5"
    assert "accuracy" in other.tiles


@pytest.mark.parametrize(
    "spec", ["cifar10", "nothing", "mnist@nan/1", "mnist@0/0", "mnist@1,2/3", "mnist@/" + "9" * 300]
)
def test_a_links_word_on_a_file_that_makes_no_sense_is_not_offered(spec: str) -> None:
    mine = upload(Visit(m=SMALL, r="[]"), "mine.safetensors", save(weights()))
    other = Visit(m=mine.link["m"], r="[]", d=spec)
    upload(other, "same.safetensors", save(weights()))
    assert "The link that you opened" not in other.words
    assert "accuracy" not in other.tiles
    assert "Is this file" in other.words


def test_a_file_is_removed_from_the_list() -> None:
    visit = upload(Visit(m=SMALL, r=PRUNED), "mine.safetensors", save({"w": torch.full((9, 9), 0.5)}))
    file = visit.link["m"]
    assert "mine.safetensors" in visit.at.selectbox(key="pick").options
    visit.click("remove-file")
    assert visit.link["m"] == SMALL
    assert visit.recipe.key == PRUNED
    assert "mine.safetensors" not in visit.at.selectbox(key="pick").options
    assert not models.net_path(file).exists()


def bare() -> bytes:
    """Weights that no known architecture has: 40x30, 8x4x3x3 and 8 numbers."""
    generator = torch.Generator().manual_seed(1)
    shapes = {"a.weight": (40, 30), "b.weight": (8, 4, 3, 3), "b.bias": (8,)}
    return save({name: torch.randn(shape, generator=generator) for name, shape in shapes.items()})


def test_bare_weights_are_explored_on_every_page() -> None:
    visit = upload(Visit(m=SMALL, r=PRUNED), "bare.safetensors", bare())
    for page in PAGES:
        assert_has_header_and_recipe(visit.open(page))
        assert "accuracy" not in visit.tiles
        if page in ("overview", "prune", "quantize", "low_rank"):
            assert "No known architecture fits" in visit.words
            assert visit.tiles["parameters"] == 40 * 30 + 8 * 36 + 8
            assert visit.at.get("plotly_chart")


def test_a_file_without_a_matrix_is_looked_at() -> None:
    visit = upload(Visit(m=SMALL, r="[]"), "bias.safetensors", save({"a.bias": torch.ones(5)}))
    assert visit.tiles["parameters"] == 5


def pickled(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


BAD = {
    "cut.safetensors": (lambda: save(weights())[:-100], "cut.safetensors "),
    "text.pt": (lambda: b"hello", "text.pt "),
    "nan.safetensors": (lambda: save({**weights(), "fc1.bias": torch.full((32,), torch.nan)}), "fc1.bias"),
    "none.pt": (lambda: pickled({"steps": 3}), "none.pt "),
    "code.pt": (lambda: pickled(torch.nn.Linear(2, 2)), "code.pt "),
}


@pytest.mark.parametrize("name", list(BAD))
def test_a_bad_file_is_refused_and_nothing_is_lost(name: str) -> None:
    make, said = BAD[name]
    visit = Visit("prune", m=SMALL, r=STORY)
    link, tiles = visit.link, visit.tiles
    upload(visit, name, make())
    assert said in visit.words
    assert f"{name}: {name}" not in visit.words
    assert visit.link == link
    assert visit.tiles == tiles


def test_a_home_that_is_none_is_said_on_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SLIMSCOPE_HOME", str(tmp_path / "file" / "home"))
    assert f"{tmp_path / 'file' / 'home'} can't be used" in Visit("prune", m=SMALL, r=PRUNED).words


def test_a_full_disk_is_said_and_takes_nothing_along(monkeypatch: pytest.MonkeyPatch) -> None:
    visit = upload(Visit("prune", m=SMALL, r=PRUNED), "first.safetensors", bare())
    owner, before = visit.at.session_state["owner"], (visit.link, visit.tiles)

    def full(*_: Any, **__: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        for lost in ("TemporaryFile", "mkstemp"):
            patch.setattr(tempfile, lost, full)
        upload(visit, "second.safetensors", save(weights()))
        assert visit.words.count("No space left on device") == 2  # over the page, and beside the upload
        assert "second.safetensors: the home folder" in visit.words
        assert (visit.link, visit.tiles) == before
    with monkeypatch.context() as patch:  # the net finds room, the list of them does not
        patch.setattr(store, "put", full_home)
        upload(visit, "second.safetensors", save(weights()))
        assert (visit.link, visit.tiles) == before
    assert list(store.get(f"files-{owner}") or {}) == [visit.link["m"]] == list(session_files(visit))


def full_home(*_: Any) -> None:
    raise home.HomeError("the home folder is full")


# ---------------------------------------------------------------- a net too large to be compressed whole


@pytest.fixture
def large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The server's own weights, and a bound that they are above."""
    source = torch.Generator().manual_seed(0)
    state = {f"{name}.weight": torch.randn(60, 40, generator=source) for name in "ab"}
    path = tmp_path / "net.safetensors"
    path.write_bytes(save({**state, "a.bias": torch.zeros(60)}))
    monkeypatch.setenv("SLIMSCOPE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SLIMSCOPE_WEIGHTS", str(path))
    monkeypatch.setattr(layerwise, "LARGE", 2000)
    monkeypatch.setattr(layerwise, "SHOWN", 1000)
    known = (cached.given, cached.is_large)
    for memory in known:
        memory.clear()
    yield path
    for memory in known:
        memory.clear()


@pytest.mark.parametrize("page", PAGES)
def test_a_large_net_is_drawn_without_being_compressed(
    page: str, large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def after(subject: str, key: str) -> tuple[Any, ...]:
        assert key == "[]", "this recipe was applied to the whole model"
        return cached.original(subject), ()

    for module in (cached, cached.states, cached.weights, cached.sizes, cached.predictions, cached.runtimes):
        monkeypatch.setattr(module, "after", after)
    visit = Visit(page)
    assert visit.link["m"].startswith("file-")
    if page != "distill":  # it has nothing to show without a net that runs
        assert visit.tiles == {"parameters": 4860.0} | ({} if visit.view.steps else {"sparsity": 0.0})


def test_a_large_net_says_what_each_layer_loses_and_which_rows_stand_for_it(large: Path) -> None:
    visit = Visit("prune", r='[["prune_weights",{"sparsity":0.5}]]')
    told = visit.html
    assert "give or take" in told
    together = run(
        models.get_model(visit.link["m"]), Recipe.from_key('[["prune_weights",{"sparsity":0.5}]]'), None
    )
    kept = together[1][0].tables["layers"]["kept"].tolist()
    shown = [int(cell.replace(",", "")) for cell in re.findall(r"<td[^>]*>([\d,]+)</td>", told)]
    assert all(any(abs(count_ - cell) <= 0.02 * 2400 for cell in shown) for count_ in kept)
    scene = live.scene(cached.subject(visit.link["m"], ""), visit.recipe, 0, "a")
    assert any("rows, evenly spaced" in note for note in scene.report.notes)


def test_the_tiles_of_a_large_net_are_those_of_its_file(large: Path) -> None:
    recipe = technique.complete(Recipe.from_key('[["prune_weights",{"sparsity":0.5}]]'))
    visit = Visit("prune", r=recipe.key)
    assert set(visit.tiles) == {"parameters"}
    streaming.write({"model": visit.link["m"], "recipe": recipe.key}, Progress())
    visit.run()
    after = run(models.get_model(visit.link["m"]), recipe, None)[0]
    assert visit.tiles["file size"] == len(packfile.pack(after))
    assert visit.tiles["sparsity"] == count.sparsity(after).value == 0.5
