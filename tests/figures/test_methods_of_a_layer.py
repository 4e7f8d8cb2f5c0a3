"""One layer under every weight-only method: the step's own numbers, and values where there are no rows."""

import pytest

import engine.techniques  # noqa: F401  (fills the registry)
from engine.data import sets
from engine.figures import weight_only
from engine.net import zoo
from engine.recipe.run import apply
from engine.recipe.technique import step


def test_the_first_layer_has_the_errors_that_the_step_reports() -> None:
    """Nothing before it is rounded, so it sees the same in both."""
    before, data = zoo.load("mlp-32"), sets.load("mnist")
    chosen = step("weight_only", method="gptq", bits=3, group=32, samples=100)
    _, report = apply(before, chosen, data)
    table = weight_only.of_layer(before, data, "fc1", chosen.settings, (3, 4))
    assert table["method"].tolist() == ["rtn", "rtn", "gptq", "gptq", "awq", "awq", "hqq", "hqq", "nf4"]
    at_3 = table[table["bits"] == 3].set_index("method")
    row = report.tables["layers"].set_index("layer").loc["fc1"]
    assert at_3.loc["gptq", "error"] == pytest.approx(row["error_method"], rel=1e-4)
    assert at_3.loc["rtn", "error"] == pytest.approx(row["error_nearest"], rel=1e-4)
    assert at_3.loc["gptq", "bits_per_weight"] == row["bits_per_weight"]
    assert set(table["of"]) == {"outputs"}


def test_a_table_of_word_vectors_has_the_error_of_its_values() -> None:
    before, data = zoo.load("transformer-topics"), sets.load("debian-topics")
    chosen = step("weight_only", group=32, samples=50).settings
    table = weight_only.of_layer(before, data, "places", chosen, (2,)).set_index("method")
    assert set(table["of"]) == {"values"}
    assert table.loc["gptq", "error"] == table.loc["awq", "error"] == table.loc["rtn", "error"] > 0
