"""A technique that is one file and one import, the README's: menu, page, sweeps, links and command line."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from driving import panels, report_edits
from streamlit.testing.v1 import AppTest
from streamlit.util import calc_hash
from test_docs import blocks, readme

from engine import cli
from engine.file import packfile
from engine.jobs import scans
from engine.net import zoo
from engine.recipe import technique
from engine.recipe.knobs import Slider
from engine.recipe.run import run
from engine.types import Progress, Recipe, SlimscopeError, Step
from pages.parts import jobs, live, menu, spoken

ROOT = Path(__file__).resolve().parent.parent.parent
MODEL = "mlp-32"
KEY = '[["clip_weights",{"limit":2.0}]]'
pytestmark = pytest.mark.usefixtures("framed")


@pytest.fixture(autouse=True)
def clip_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The README's template as a file that is imported; no job measures behind a test."""
    monkeypatch.setattr(jobs, "measure_all", lambda *args: None)
    path = tmp_path / "clip_weights.py"
    path.write_text(blocks(readme(), "python")[0])
    spec = importlib.util.spec_from_file_location("clip_weights", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "clip_weights", module)
    spec.loader.exec_module(module)
    yield
    del technique.REGISTRY["clip_weights"]
    live.PAGES.pop("clip_weights", None)


def visit(page: str, recipe: str) -> AppTest:
    """The app at a link to a page."""
    at = AppTest.from_file(str(ROOT / "app.py"), default_timeout=120)
    at.query_params["m"], at.query_params["r"] = MODEL, recipe
    at._page_hash = calc_hash(page)  # switch_page knows pages with a file only
    return drawn(at)


def drawn(at: AppTest) -> AppTest:
    at.run()
    assert [error.message for error in at.exception] == []
    return at


def vary(recipe: str) -> AppTest:
    """Decide, with the fold open that varies one step."""
    at = visit("tradeoffs", recipe)
    at.session_state["fold-vary"] = True
    return drawn(at)


def html(at: AppTest) -> str:
    return "\n".join(part.proto.body for part in at.html)


def test_it_stands_in_the_menu_after_the_pages_that_have_a_file() -> None:
    names = [entry.name for entry in menu.entries()]
    files = [entry.name for entry in menu.of_files()]
    assert [name for name in names if name in files] == files
    assert names.index(files[-2]) < names.index("clip_weights") < names.index("tradeoffs")


def test_its_page_shows_controls_histograms_layers_and_tiles_and_follows_its_slider() -> None:
    at = visit("clip_weights", KEY)
    assert at.header[0].value == "Clip weights"
    assert panels(at)["clip_weights"]["settings"]["limit"] == 2.0
    before = html(at)
    assert "Weights of fc1 before and after the step" in before
    assert before.count('class="tile"') >= 5
    report_edits(at, "clip_weights", {"limit": 1.0})
    drawn(at)
    tried = at.session_state["work"].trials[MODEL, "clip_weights"].step
    assert tried.settings["limit"] == 1.0
    rows = run(zoo.load(MODEL), Recipe((tried,)), None)[1][0].tables["layers"]
    assert f"{rows['clipped'][0]:,}" in html(at)
    assert html(at) != before


def test_what_is_tried_is_kept_at_its_stage_of_the_recipe() -> None:
    at = visit("clip_weights", '[["prune_weights",{"sparsity":0.5}],["quantize",{"bits":4}]]')
    report_edits(at, "clip_weights", {"limit": 2.5})
    drawn(at)
    at.button("keep-clip_weights").click().run()
    names = [step.technique for step in at.session_state["work"].recipes[MODEL]]
    assert names == ["prune_weights", "clip_weights", "quantize"]


def test_trade_offs_offers_its_settings_and_a_sweep_measures_them() -> None:
    at = vary(KEY)
    assert at.multiselect(key="vary-clip_weights").value == ["limit"]
    payload = {
        "model": MODEL,
        "data": zoo.entry(MODEL).data,
        "recipe": KEY,
        "step": 1,
        "vary": {"limit": [1.0, 4.0]},
    }
    original, harsh, gentle = scans.sweeping(payload, Progress())["rows"]
    assert original["baseline"]
    assert (harsh["limit"], gentle["limit"]) == (1.0, 4.0)
    assert harsh["accuracy"] < gentle["accuracy"]


def test_trade_offs_opens_with_a_step_whose_first_slider_does_not_matter() -> None:
    at = vary('[["prune_weights",{"by":"threshold"}]]')
    assert at.multiselect(key="vary-prune_weights").value == ["threshold"]


def test_the_command_line_lists_it_and_writes_a_file_with_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # The file is decoded by another process, which must have the technique, too.
    (tmp_path / "sitecustomize.py").write_text("import engine.techniques\nimport clip_weights\n")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{ROOT}")
    cli.main(["techniques", "--json"])
    listed = {known["name"]: known for known in json.loads(capsys.readouterr().out)}
    assert listed["clip_weights"]["settings"][0]["default"] == 1.5
    out = tmp_path / "small.slim"
    cli.main(["compress", MODEL, "--recipe", KEY, "--out", str(out)])
    assert packfile.unpack(out.read_bytes()).lineage.steps == (Step("clip_weights", {"limit": 2.0}),)


def test_a_step_without_any_setting_to_vary_is_said_to_have_none() -> None:
    known = technique.get("clip_weights")

    @technique.technique(
        family="prune",
        title="Plain",
        reference="nobody 2020",
        stage=500,
        runs="instant",
        locality="row",
        tables={},
    )
    def plain_step(bundle, data):  # type: ignore[no-untyped-def]
        """Clip at the default limit."""
        return known.function(bundle, data)

    try:
        at = vary('[["plain_step",{}]]')
        assert "Plain has no setting to vary" in "".join(info.value for info in at.info)
        assert "Weights of fc1 before and after the step" in html(visit("plain_step", '[["plain_step",{}]]'))
    finally:
        del technique.REGISTRY["plain_step"]
        live.PAGES.pop("plain_step", None)


def test_a_number_is_written_in_per_cent_only_where_that_is_declared() -> None:
    assert spoken.written(Slider(help="", low=1, high=64, unit="shared values"), 32) == "32"
    assert spoken.written(Slider(help="", low=0, high=1, unit="of all", percent=True), 0.25) == "25 %"


def test_a_page_file_that_says_nothing_of_itself_is_named(tmp_path: Path) -> None:
    (tmp_path / "mute.py").write_text("TITLE = 1\n")
    with pytest.raises(SlimscopeError, match=r"mute\.py has no PAGE"):
        menu.of_files(tmp_path)
