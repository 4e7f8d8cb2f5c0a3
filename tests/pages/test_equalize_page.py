"""The default page of a technique whose report has a table of channels: those of the chosen layer."""

from __future__ import annotations

import pytest
from visiting import Visit

from pages.parts import jobs

pytestmark = pytest.mark.usefixtures("framed")


def test_it_lists_the_ranges_of_each_channel_of_the_chosen_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "measure_all", lambda *args: None)
    html = Visit("equalize", m="lenet-5-small").html
    assert "Channels of conv1" in html
    assert html.count('<td class="text">conv2</td>') >= 4, "who reads each of its four channels"
    assert "Answers differ by" in html
