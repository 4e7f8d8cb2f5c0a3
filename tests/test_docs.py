"""What is written is true: examples run, the README's commands exist, packages and versions agree."""

from __future__ import annotations

import doctest
import importlib
import json
import pkgutil
import re
import shlex
from pathlib import Path

import pytest

import engine.techniques  # noqa: F401  (fills the registry)
from engine import cli
from engine.recipe.knobs import Slider
from engine.recipe.technique import REGISTRY

ROOT = Path(__file__).resolve().parent.parent
MODULES = [
    module.name
    for package in ("engine", "pages.parts")
    for module in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}.")
]
# packages that only hold, and what is called from a command line
PLAIN = (".prune", ".quantize", ".factor", ".techniques.compact", ".distill", ".__main__", ".tasks")
ENGINE = [name for name in MODULES if name.startswith("engine.") and name.count(".") > 1]
ENGINE = [name for name in ENGINE if not name.startswith("engine.commands")]


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_run(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert result.failed == 0


def test_there_are_examples_to_run() -> None:
    finder = doctest.DocTestFinder()
    examples = {
        name: sum(len(t.examples) for t in finder.find(importlib.import_module(name))) for name in ENGINE
    }
    public = {name: count for name, count in examples.items() if not name.endswith(PLAIN)}
    assert sum(count > 0 for count in public.values()) >= len(public) // 2, public


@pytest.mark.parametrize("name", MODULES)
def test_every_module_says_what_it_is(name: str) -> None:
    assert len((importlib.import_module(name).__doc__ or "").split()) >= 5


@pytest.mark.parametrize("name", list(REGISTRY))
def test_a_technique_can_be_read_by_a_student(name: str) -> None:
    spec = REGISTRY[name]
    assert re.search(r"(19|20)\d\d", spec.reference), "the paper has a year"
    assert len(spec.about.split()) >= 5
    assert spec.page == name or (ROOT / "pages" / f"{spec.page}.py").is_file()
    for setting, knob in spec.knobs.items():
        assert re.match(r"[A-Z0-9].*\.$", knob.help, re.DOTALL), f"{setting}: one sentence"
        if isinstance(knob, Slider) and not knob.unit:
            assert setting in ("learning_rate", "weight_decay", "temperature", "seed"), (
                f"{setting} needs a unit"
            )


# ---------------------------------------------------------------- the README


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def commands(text: str) -> list[list[str]]:
    """Every `slimscope ...` line of the sh blocks as words; a line that ends in a backslash goes on."""
    lines = "\n".join(blocks(text, "sh")).replace("\\\n", " ").splitlines()
    words = [shlex.split(line.removeprefix("$ "), comments=True) for line in lines]
    return [line for line in words if line and Path(line[0]).name == "slimscope"]


def readme() -> str:
    path = ROOT / "README.md"
    return path.read_text() if path.exists() else ""


def test_commands_are_found_in_a_text() -> None:
    text = "```sh\n.venv/bin/slimscope models --json  # all\nslimscope inspect \\\n  m.slim\nmake run\n```\n"
    assert commands(text) == [
        [".venv/bin/slimscope", "models", "--json"],
        ["slimscope", "inspect", "m.slim"],
    ]


def test_the_commands_of_the_readme_are_understood() -> None:
    for _, *words in commands(readme()):
        assert callable(cli._parser().parse_args(words).run), words


def test_the_targets_of_the_readme_are_in_the_makefile() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {"run", "test", "lint", "pictures", "bench"} <= targets
    assert set(re.findall(r"`make (\w+)", readme())) <= targets


def test_the_files_of_the_readme_are_there() -> None:
    linked = re.findall(r"\]\((?!https?:|#)([^)#\s]+)", readme())
    assert [link for link in linked if not (ROOT / link).exists()] == []


def test_nothing_in_the_readme_waits_to_be_filled_in() -> None:
    assert re.findall(r"\b[A-Z]+_TABLE\b|TODO|TBD|FIXME", readme()) == []


# ---------------------------------------------------------------- packages, data, weights


def test_versions_are_exact_and_name_no_place() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert lines == sorted(lines, key=str.lower)
    for line in lines:
        assert re.fullmatch(r"[A-Za-z0-9_.-]+==[0-9][0-9A-Za-z.]*", line), line


def test_every_folder_of_data_and_weights_says_where_it_comes_from() -> None:
    for folder in (*(ROOT / "assets" / "data").iterdir(), ROOT / "assets" / "models"):
        text = (folder / "SOURCE.md").read_text()
        assert "**Licence**" in text
        assert "**Again**" in text


def test_the_sources_name_the_sums_that_are_checked() -> None:
    from engine.data.excerpts import DOCUMENTS
    from engine.data.fetch import PACKAGES

    for name, (package, digest) in PACKAGES.items():
        folder = "language" if name in DOCUMENTS else name
        text = (ROOT / "assets" / "data" / folder / "SOURCE.md").read_text()
        assert package in text
        assert digest in text


def test_every_model_card_has_a_licence_and_its_command() -> None:
    cards = sorted((ROOT / "assets" / "models").glob("*.json"))
    assert cards
    for path in cards:
        card = json.loads(path.read_text())
        if "source" in card:  # taken from elsewhere, with its licence beside it
            assert card["licence"].startswith("MIT")
            assert "Permission is hereby granted" in path.with_suffix(".LICENSE").read_text()
            assert card["command"].startswith("python -m engine.net.zoo take ")
            continue
        assert card["licence"] == "CC0-1.0"
        assert card["command"].startswith(f"python -m engine.net.zoo train {path.stem} ")
