"""A technique's panel without a browser: what it was told, and edits as the browser reports them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from streamlit.testing.v1 import AppTest


def panels(at: AppTest) -> dict[str, dict[str, Any]]:
    """Technique -> what the page told its panel."""
    found = {}
    for part in at.get("bidi_component"):
        if part.proto.component_name.endswith("slimscope.panel"):
            told = json.loads(part.proto.json)
            found[told["name"]] = told
    return found


def controls(told: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Setting -> its control, of one panel."""
    return {one["setting"]: one for group in told["groups"] for one in group["controls"]}


def report_edits(at: AppTest, name: str, settings: Mapping[str, Any]) -> None:
    """What the browser says after these controls were set, to be read by the next run."""
    draft = at.session_state["drafts"][name]
    number = draft.acknowledged + 1
    edits = {
        "base": draft.base,
        "seq": number,
        "set": {key: [value, number] for key, value in settings.items()},
    }
    at.session_state[f"panel-{name}"] = {"edits": edits}
