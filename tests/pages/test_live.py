"""What a browser asks while a slider moves: the same answers as the page's, for nobody else's weights."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from starlette.requests import Request
from starlette.responses import Response

import engine.techniques  # noqa: F401  (fills the registry)
from engine.data.sets import load
from engine.figures import count, measure
from engine.file import packfile
from engine.jobs import models, store
from engine.net import zoo
from engine.recipe import technique
from engine.recipe.run import run
from engine.tensor.formats import Dense
from engine.types import Arch, Bundle, Recipe, SlimscopeError
from pages.parts import figures, live, serve
from pages.parts.live import Scene, Update

MODEL = "mlp-32"
SUBJECT = f"{MODEL}|{zoo.entry(MODEL).data}"
STEP: list[Any] = ["prune_weights", {"sparsity": 0.753}]  # at which no page opens: answers are remembered
QUESTION = {"subject": SUBJECT, "recipe": [STEP], "at": 0, "layer": "fc1"}


@pytest.fixture(autouse=True)
def page(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page with one mark at the threshold and one table."""

    def update(scene: Scene) -> Update:
        mark = {"kind": "line", "at": scene.row["threshold"], "colour": "red"}
        table = figures.table(scene.report.tables["layers"], {"layer": figures.Column("layer")}, scene.layer)
        return Update({"weights": [mark]}, {"layers": table})

    monkeypatch.setattr(live, "PAGES", {"prune_weights": update})


def ask(owner: str = "", **changes: Any) -> dict[str, Any]:
    return live.asked(owner, json.dumps({**QUESTION, **changes}).encode())


def truth(recipe: str) -> Bundle:
    return run(zoo.load(MODEL), Recipe.from_key(recipe), load(zoo.entry(MODEL).data))[0]


def test_an_answer_is_what_the_engine_says() -> None:
    answer, after = ask(), truth(json.dumps([STEP]))
    assert answer["key"] == technique.complete(Recipe.from_key(json.dumps([STEP]))).key
    gone = zoo.load(MODEL).params["fc1.weight"].decode()[after.params["fc1.weight"].decode() == 0]
    assert answer["marks"]["weights"][0]["at"] == pytest.approx(float(gone.abs().max()))
    assert f'data-value="{count.sparsity(after).value!r}"' in answer["tiles"]["Zero weights"]
    assert answer["pending"] == ["Accuracy", "Compressed file"]
    json.dumps(answer)


def test_a_whole_number_from_a_browser_is_the_same_recipe() -> None:
    assert (
        ask(recipe=[["prune_weights", {"sparsity": 0}]])["key"]
        == ask(recipe=[["prune_weights", {"sparsity": 0.0}]])["key"]
    )


def test_later_steps_are_not_waited_for() -> None:
    answer = ask(recipe=[STEP, ["quantize", {"bits": 4}]])
    assert answer["tiles"] == {}
    assert len(answer["pending"]) == 4


def test_measured_figures_are_those_of_the_engine() -> None:
    key = technique.complete(Recipe.from_key(json.dumps([STEP]))).key
    after = truth(key)
    sample = load(zoo.entry(MODEL).data).test.stratified(measure.sample_size(zoo.load(MODEL)))
    for name, figure in (
        ("Accuracy", measure.accuracy(after, sample)),
        ("Compressed file", packfile.size(after)),
    ):
        answer = ask("anna", measured=key, tile=name)
        assert f'data-value="{figure.value!r}"' in answer["tiles"].pop(name)
        assert set(answer["tiles"]) == {"Zero weights", "Parameters"}


def test_a_step_that_does_not_fit_is_said_in_all_tiles() -> None:
    answer = ask("anna", measured='[["quantize",{"per_layer":{"<b>9</b>":2}}]]', tile="Accuracy")
    assert len(answer["tiles"]) == 4
    assert "&lt;b&gt;9" in answer["html"]["alert"]
    assert "<b>" not in answer["html"]["alert"]


BAD: dict[str, dict[str, Any]] = {
    "not known here": {"subject": f"file-0123|{zoo.entry(MODEL).data}"},
    "model 'mlp-32' is not known here": {"subject": f"{MODEL}|cifar10"},
    "allowed is a number from 0": {"recipe": [["prune_weights", {"sparsity": 7}]]},
    "no page that was drawn": {"at": 3},
    "step 0 of this recipe has no page": {"recipe": [["quantize", {}]]},
    "layer 'fc9' is not in this model": {"layer": "fc9"},
    "not a question": {"at": "x"},
    "at is a whole number": {"at": float("inf")},
    "tile are text": {"measured": "[]", "tile": ["Accuracy"]},
}


@pytest.mark.parametrize("said", list(BAD))
def test_a_bad_question_is_refused_in_a_sentence(said: str) -> None:
    with pytest.raises(SlimscopeError, match=said):
        ask(**BAD[said])


@pytest.mark.parametrize("body", [b"", b"[]", b"1", b"{", b'{"subject": 1}', b"\xff", b"[" * 100_000])
def test_a_body_that_is_no_question_is_refused(body: bytes) -> None:
    with pytest.raises(SlimscopeError, match="not a question"):
        live.asked("", body)


def test_weights_are_answered_for_their_owner_only_and_names_in_them_are_text() -> None:
    name = "<img src=x onerror=alert(1)>"
    bundle = Bundle(Arch("bare"), {f"{name}.weight": Dense(torch.randn(6, 5))})
    model = models.put_model(bundle)
    store.put("files-anna", {model: {"data": ""}})
    answer = ask("anna", subject=f"{model}|", layer=name)
    assert "<img" not in json.dumps(answer["html"])
    assert "&lt;img" in answer["html"]["layers"]
    for stranger in ("", "berta"):
        with pytest.raises(SlimscopeError, match="not known here"):
            ask(stranger, subject=f"{model}|", layer=name)


HEADERS = {
    "content-type": "application/json",
    "origin": "http://127.0.0.1:8501",
    "host": "127.0.0.1:8501",
}


def post(
    door: Callable[[Request], Coroutine[Any, Any, Response]],
    question: dict[str, Any] = QUESTION,
    **headers: str | None,
) -> Response:
    """What the server says to a question that is sent over HTTP; a header that is None is left out."""
    sent = {**HEADERS, **{name.replace("_", "-"): value for name, value in headers.items()}}
    pairs = [(name.encode(), value.encode()) for name, value in sent.items() if value is not None]

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": json.dumps(question).encode()}

    answer = door(Request({"type": "http", "method": "POST", "headers": pairs}, receive))
    with ThreadPoolExecutor() as aside:  # this thread may have a loop of events of its own
        return aside.submit(asyncio.run, answer).result()


REFUSED: list[tuple[dict[str, str | None], int]] = [
    ({"content_type": "text/plain"}, 415),  # what a form or a script of another website may send unasked
    ({"content_type": None}, 415),
    ({"origin": "https://example.org"}, 403),
    ({"origin": "http://127.0.0.1:8502"}, 403),
    ({"origin": "null"}, 403),
    ({"origin": "http://["}, 403),
    ({"origin": None}, 403),
    ({"host": None}, 403),
    ({"host": "", "origin": "http://"}, 403),
]


@pytest.mark.parametrize(("headers", "status"), REFUSED)
@pytest.mark.parametrize("busy", [False, True])
@pytest.mark.parametrize("door", [serve.ask, serve.ask_ahead])
def test_only_pages_of_this_server_are_answered(
    door: Any, busy: bool, headers: dict[str, str | None], status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve, "at_work", int(busy))
    monkeypatch.setattr(live, "asked", lambda owner, body: pytest.fail("it was asked"))
    answer = post(door, **headers)
    assert answer.status_code == status
    assert "allowed" in json.loads(bytes(answer.body))["error"]


def test_a_page_behind_a_door_with_another_scheme_is_answered() -> None:
    sent = {
        "content_type": "application/json; charset=utf-8",
        "origin": "https://Slim.example",
        "host": "slim.example",
    }
    assert json.loads(bytes(post(serve.ask, **sent).body)) == ask()


def test_measuring_is_for_visitors_with_a_cookie(monkeypatch: pytest.MonkeyPatch) -> None:
    question = {"subject": SUBJECT, "measured": json.dumps([STEP]), "tile": "Accuracy"}
    with monkeypatch.context() as patch:
        patch.setattr(live, "late", lambda *_: pytest.fail("it was measured"))
        stranger = post(serve.measure, question)
    assert stranger.status_code == 403
    assert "no cookie" in json.loads(bytes(stranger.body))["error"]
    known = post(serve.measure, question, cookie=f"{serve.COOKIE}=anna")
    assert known.status_code == 200
    assert "Accuracy" in json.loads(bytes(known.body))["tiles"]


def test_who_asks_ahead_does_not_keep_others_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    assert json.loads(bytes(post(serve.ask_ahead).body)) == ask()
    monkeypatch.setattr(serve, "at_work", 1)
    assert json.loads(bytes(post(serve.ask_ahead).body)) is None
    assert json.loads(bytes(post(serve.ask).body)) == ask()
    assert serve.at_work == 1


@pytest.mark.parametrize("wrong", [False, True])
def test_a_question_counts_while_it_is_answered(wrong: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def asked(owner: str, body: bytes) -> dict[str, Any]:
        seen.append(serve.at_work)
        if wrong:
            raise SlimscopeError("no")
        return {}

    monkeypatch.setattr(live, "asked", asked)
    assert post(serve.ask).status_code == (422 if wrong else 200)
    assert (seen, serve.at_work) == ([1], 0)
