"""Names of data read back; names of results tell apart what differs."""

from __future__ import annotations

import pytest
import torch

from engine.data import sets as datasets
from engine.jobs import keys
from engine.types import SlimscopeError

RECIPE = '[["prune_weights",{"sparsity":0.5}]]'


def test_keys_tell_releases_of_torch_apart_and_not_its_builds(monkeypatch):
    made = {}
    for version in ("2.13.0", "2.13.0+cpu", "2.13.0+cu130", "2.13.1+cpu"):
        monkeypatch.setattr(torch, "__version__", version)
        made[version] = keys.result_key("apply", "0123456789abcdef", RECIPE, "mnist")
    assert len({made[v] for v in made if v.startswith("2.13.0")}) == 1
    assert made["2.13.1+cpu"] != made["2.13.0+cpu"]
    assert keys.result_key("apply", "x") != keys.result_key("accuracy", "x")


def test_data_specs_read_back():
    data = keys.read_data(keys.data_spec("cifar10", (0.5, 0.25, 0.125), (1.0, 2.0, 4.0)))
    assert (data.test.mean, data.test.std) == ((0.5, 0.25, 0.125), (1.0, 2.0, 4.0))
    assert keys.read_data("mnist") is datasets.load("mnist")
    assert keys.read_data("") is None
    assert keys.data_key(data) != keys.data_key(datasets.load("cifar10"))


@pytest.mark.parametrize(
    "spec", ["svhn", "mnist@1", "mnist@a/b", "mnist@0/0", "mnist@0.1,0.2/1,1", "cifar10@0/1"]
)
def test_data_that_is_not_there_is_refused(spec):
    with pytest.raises(SlimscopeError, match="data '"):
        keys.read_data(spec)
