"""Two people at one server, in two browsers: neither sees the weights or the jobs of the other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import torch
from browsing import PRUNE, SMALL, Tab, give, sweep, visitor
from conftest import Server
from safetensors.torch import save_file

pytestmark = pytest.mark.browser

ASK = """async question => {
    const answer = await fetch('/live', {
        method: 'POST', headers: {'Content-Type': 'application/json'}, body: JSON.stringify(question)
    })
    return [answer.status, await answer.text()]
}"""


def sidebar(tab: Tab) -> str:
    return tab.page.inner_text("[data-testid=stSidebar]")


def offered(tab: Tab) -> list[str]:
    """The nets that can be chosen."""
    names = tab.offered().all_inner_texts()
    tab.page.keyboard.press("Escape")
    return names


def test_a_link_to_the_weights_of_another_asks_for_the_file(
    browser: Any, server: Server, tmp_path: Path
) -> None:
    path = tmp_path / "annas.safetensors"
    save_file({"secret.weight": torch.randn(12, 10, generator=torch.Generator().manual_seed(1))}, path)
    anna, berta = (visitor(browser, server.url) for _ in range(2))
    anna.open("prune", SMALL, PRUNE)
    give(anna, path)
    anna.until(lambda: "m=file-" in anna.page.url)
    anna.until(lambda: "secret" in anna.page.inner_text("[data-testid=stMain]"))
    link = urlsplit(anna.page.url)  # before the list of models is opened, where a click may choose another
    model = parse_qs(link.query)["m"][0]
    question = {"subject": f"{model}|", "recipe": json.loads(PRUNE), "at": 0, "layer": "secret"}
    # A run of her own page may have the answer's place for a moment.
    anna.until(lambda: anna.page.evaluate(ASK, question)[0] == 200)
    assert path.name in offered(anna)

    berta.page.goto(link.geturl())
    berta.until(lambda: "upload the file in the sidebar" in berta.page.inner_text("[data-testid=stMain]"))
    for page in ("overview", "quantize", "tradeoffs"):
        berta.page.goto(f"{server.url}/{page.removeprefix('overview')}?{link.query}")
        berta.until(lambda: "upload the file in the sidebar" in berta.page.inner_text("[data-testid=stMain]"))
        assert berta.page.locator(".tile").count() == 0
    said = berta.page.inner_text("body")
    assert "secret" not in said
    assert path.name not in said
    assert path.name not in offered(berta)
    status, text = berta.page.evaluate(ASK, question)
    assert (status, "is not known here" in text) == (422, True)

    for one in (anna, berta):
        one.page.context.close()


def test_a_job_at_work_is_seen_and_stopped_by_its_owner_only(browser: Any, server: Server) -> None:
    anna, berta = (visitor(browser, server.url) for _ in range(2))
    anna.open("tradeoffs", "resnet-20", PRUNE)  # its sweep takes long enough to be stopped
    sweep(anna, 40)
    anna.until(lambda: "running)" in sidebar(anna))
    berta.page.goto(anna.page.url)
    berta.drawn().open_fold("vary")
    berta.key("run-sweep").wait_for()
    cancel = "button:has-text('Cancel')"
    assert berta.page.locator(f"[data-testid=stMain] {cancel}").count() == 0
    assert "Nothing has been swept yet" in berta.page.inner_text("[data-testid=stMain]")
    assert "sweep" not in sidebar(berta).lower()  # her own is the accuracy of this recipe on all images
    assert anna.page.locator(cancel).count() > 0, "anna's sweep was over before berta came"
    anna.page.locator("[data-testid=stMain]").locator(cancel).first.click()
    anna.until(lambda: "was cancelled" in anna.page.inner_text("[data-testid=stMain]"))
    for one in (anna, berta):
        one.assert_well()
        one.page.context.close()
