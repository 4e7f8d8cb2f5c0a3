"""The page of coders without a browser: its bytes are those of real streams, its tree grows by steps."""

from __future__ import annotations

import base64
import re

import pytest
from visiting import Visit

from engine.figures import coding
from engine.file import packfile
from engine.recipe import technique
from engine.tensor.codes import huffman
from engine.types import Recipe
from pages.parts import cached, encoding, jobs

pytestmark = pytest.mark.usefixtures("framed")
MODEL = "mlp-32"
PRUNED = technique.complete(
    Recipe.from_key('[["prune_weights",{"sparsity":0.9}],["quantize",{"bits":5}]]')
).key


@pytest.fixture(autouse=True)
def no_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "measure_all", lambda *args: None)


def drawn_tree(visit: Visit) -> str:
    found = re.search(r'src="data:image/svg\+xml;base64,([^"]+)"', visit.html)
    assert found
    return base64.b64decode(found[1]).decode()


def test_every_number_of_the_coders_is_a_stream_that_can_be_written() -> None:
    visit = Visit("encode", m=MODEL, r=PRUNED)
    bundle = cached.after(cached.subject(MODEL, "mnist"), PRUNED)[0]
    stream = coding.stream_of(bundle.params["fc1.weight"])
    data = huffman.encode(stream.symbols)
    assert (huffman.decode(data, len(stream.symbols)) == stream.symbols).all()
    assert f">{len(data):,}</td>" in visit.html
    rows = coding.compared(stream).set_index("coder")["bytes"]
    assert rows["adaptive contexts"] < rows["entropy, order 0"] < rows["range coder"] < rows["Huffman"]
    assert all(f">{size:,}</td>" in visit.html for size in rows)
    assert f">{int(packfile.size(bundle).value):,}</td>" in visit.html
    assert all(f'text">{state}</td>' in visit.html for state in encoding.STATES)


def test_the_tree_grows_step_by_step() -> None:
    visit = Visit("encode", m=MODEL, r=PRUNED)
    slider = next(each for each in visit.at.slider if each.label == "Steps")
    whole = drawn_tree(visit)
    assert whole.count("<line") == 2 * slider.max
    slider.set_value(3)
    visit.run()
    assert drawn_tree(visit).count("<line") == 6
    assert "Step 3:" in visit.html


def test_a_raw_layer_shows_exponents_and_no_distances() -> None:
    visit = Visit("encode", m=MODEL, r="[]")
    assert "sign and exponent of each float" in visit.html
    assert "distances would cost more than they save" in visit.html
    assert "0.14 bit a weight" in visit.html


def test_every_order_is_run_when_it_is_asked_for() -> None:
    visit = Visit("encode", m=MODEL, r="[]")
    assert "after step 1" not in visit.html
    visit.at.multiselect(key="orders").set_value(["prune 90 %", "round to 5 bits"])
    visit.at.toggle(key="run-orders").set_value(True)
    visit.run()
    size = int(packfile.size(cached.after(cached.subject(MODEL, "mnist"), PRUNED)[0]).value)
    assert "prune 90 % → round to 5 bits" in visit.html
    assert "round to 5 bits → prune 90 %" in visit.html
    assert f"{size:,} B, " in visit.html
