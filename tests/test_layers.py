"""Imports go one way: every import statement of the project against the order of the layers."""

from __future__ import annotations

import ast
import functools
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# Lower to higher: packages, each with all that lies in it. A module imports from lower layers, and from its
# own package without a circle. STRANGERS may not even do that: it is what keeps techniques and pages apart.
LAYERS = (
    ("engine.types", "engine.memory"),
    ("engine.tensor",),
    ("engine.data",),
    ("engine.recipe.knobs", "engine.recipe.technique", "engine.recipe.settings", "engine.recipe.migrate"),
    ("engine.net",),
    ("engine.file",),
    ("engine.figures",),
    ("engine.techniques",),
    ("engine.recipe",),
    ("engine.jobs",),
    ("engine.papers",),
    ("engine.printing", "engine.commands", "engine.notebook"),
    ("engine", "engine.cli", "engine.net.zoo.__main__"),
    ("pages.parts",),
    ("pages",),
    ("app",),
)
ALONE = ("engine",)  # the package's own file: what lies in it has layers of its own
STRANGERS = ("engine.techniques", "pages")
BELOW_PAGES = ("streamlit", "plotly", "pages", "app")
STATE = {"session_state", "cache_data", "cache_resource", "query_params"}
# What a package is called where it is imported, where that differs; starlette is streamlit's own server.
CALLED = {"pillow": "PIL", "sqlalchemy": "sqlalchemy"}
BROUGHT = {"anyio", "starlette"}
# Modules that import what an extra brings, late.
EXTRAS = {"engine.jobs.evolution": "search", "engine.figures.design_search": "search"}


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {
    name_of(path): path.read_text()
    for path in sorted([ROOT / "app.py", *ROOT.glob("engine/**/*.py"), *ROOT.glob("pages/**/*.py")])
}


@functools.cache  # the same sources are looked at by many tests
def statements(source: str) -> list[ast.Import | ast.ImportFrom]:
    return [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Import | ast.ImportFrom)]


def imported(source: str, known: Mapping[str, str] = SOURCES) -> Iterator[str]:
    """Every module that a source imports; `from a import b` is a.b where that is a module."""
    for node in statements(source):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        else:
            base = "." * node.level + (node.module or "")
            for alias in node.names:
                whole = f"{base}.{alias.name}"
                yield whole if whole in known else base


def named(node: ast.stmt) -> set[str]:
    """The packages that a statement imports."""
    if isinstance(node, ast.Import):
        return {alias.name.split(".")[0] for alias in node.names}
    return {(node.module or "").split(".")[0]} if isinstance(node, ast.ImportFrom) else set()


def layer(module: str) -> int:
    """The number of the layer whose package the module is, or lies in; one outside of all is an error."""
    numbered = [(name, number) for number, names in enumerate(LAYERS) for name in names]
    names = [(len(name), number) for name, number in numbered if has(name, module)]
    if not names:
        raise KeyError(f"{module} lies in no package of LAYERS: put it into one")
    return max(names)[1]


def has(package: str, module: str) -> bool:
    return module == package or (package not in ALONE and within(module, package))


def within(module: str, package: str) -> bool:
    return f"{module}.".startswith(f"{package}.")


def wrong_edges(sources: Mapping[str, str]) -> list[str]:
    """Each import that does not go down, as `importer -> imported`."""
    wrong = []
    for module, source in sources.items():
        for target in imported(source, sources):
            if target.startswith("."):
                wrong.append(f"{module} -> {target} (relative)")
            elif target in sources and not allowed(module, target):
                wrong.append(f"{module} -> {target}")
    return wrong


def allowed(module: str, target: str) -> bool:
    if layer(target) != layer(module):
        return layer(target) < layer(module)
    stranger = any(within(module, name) for name in STRANGERS) and not within(module, "pages.parts")
    return within(target, module) or not stranger


def test_every_import_goes_down() -> None:
    assert wrong_edges(SOURCES) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("engine.types", "from engine import data"),
        ("engine.techniques.prune.prune_weights", "from engine.techniques import quantize"),
        ("engine.techniques.prune.prune_weights", "from engine.techniques.quantize.quantize import quantize"),
        ("engine.tensor.grids", "def late():\n    import engine.net.zoo"),
        ("engine.recipe.run", "import pages.parts.cached"),
        ("pages.parts.cached", "import app"),
        ("pages.prune", "from pages import quantize"),
        ("engine.recipe.run", "from .types import Bundle"),
    ],
)
def test_an_import_that_goes_up_is_found(module: str, source: str) -> None:
    assert len(wrong_edges({**SOURCES, module: source})) == 1


@pytest.mark.parametrize("module", ["engine.novelty", "novelty"])
def test_a_new_module_is_asked_for_its_layer(module: str) -> None:
    with pytest.raises(KeyError, match="LAYERS"):
        layer(module)


def test_every_layer_names_packages_that_are_there() -> None:
    assert [name for names in LAYERS for name in names if name not in SOURCES] == []


def circle(sources: Mapping[str, str]) -> list[str]:
    """Modules that import each other in a circle, or none."""
    graph = {module: set(imported(source, sources)) & set(sources) for module, source in sources.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_nothing_imports_in_a_circle() -> None:
    assert circle(SOURCES) == []
    looped = {"pages.parts.a": "from pages.parts import b", "pages.parts.b": "import pages.parts.a"}
    assert set(circle(looped)) == set(looped)


@pytest.mark.parametrize("module", [m for m in SOURCES if m.split(".")[0] == "engine"])
def test_the_engine_knows_no_page(module: str) -> None:
    roots = {target.split(".")[0] for target in imported(SOURCES[module])}
    assert roots.isdisjoint(BELOW_PAGES)


def test_charts_are_drawn_without_streamlit() -> None:
    roots = {target.split(".")[0] for target in imported(SOURCES["pages.parts.charts"])}
    assert "streamlit" not in roots


def touched(source: str) -> set[str]:
    """Which of the names that only pages/parts may touch a source uses."""
    nodes = list(ast.walk(ast.parse(source)))
    attributes = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    names = {alias.name for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names}
    return (attributes | names) & STATE


@pytest.mark.parametrize(
    "module", [m for m in SOURCES if m == "app" or re.fullmatch(r"pages\.(?!parts$)\w+", m)]
)
def test_a_page_touches_neither_state_nor_caches(module: str) -> None:
    assert touched(SOURCES[module]) == set()


def test_one_package_has_the_caches_of_data_and_one_module_reads_the_address() -> None:
    def users(name: str) -> set[str]:
        return {module for module, source in SOURCES.items() if name in touched(source)}

    assert {module.rpartition(".")[0] for module in users("cache_data") - {"pages.parts.cached"}} == {
        "pages.parts.cached"
    }
    assert users("query_params") == {"pages.parts.session"}


def test_what_is_shipped_needs_only_the_core_dependencies() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    def packages(lines: list[str]) -> set[str]:
        found = {re.match(r"[\w-]+", line).group().lower() for line in lines}  # type: ignore[union-attr]
        return {CALLED.get(name, name) for name in found}

    core = packages(project["dependencies"]) | BROUGHT | {"engine", "pages"}
    for module, source in SOURCES.items():
        roots = {target.split(".")[0] for target in imported(source)}
        extra = packages(project["optional-dependencies"][EXTRAS[module]]) if module in EXTRAS else set()
        assert roots - core - extra - sys.stdlib_module_names == set(), module
        assert extra <= roots, f"{module} does not use {extra}"
        at_the_top = {target for node in ast.parse(source).body for target in named(node)}
        assert extra.isdisjoint(at_the_top), f"{module} can't be imported without {extra}"
