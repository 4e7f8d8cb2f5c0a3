"""What a file may be is proposed, never believed: names, order and shapes are all that there is to go by."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from engine.file import recognise
from engine.file.recognise import mapping, propose, take
from engine.net import zoo
from engine.types import Arch, Bundle, Dense, SlimscopeError

KNOWN = "lenet-300-100"


def bare(state: dict[str, Any]) -> Bundle:
    return Bundle(Arch("bare"), {name: Dense(tensor) for name, tensor in state.items()})


def sequence() -> nn.Sequential:
    """A user's net with the shapes of LeNet-300-100, and tanh in the place of ReLU."""
    torch.manual_seed(3)
    layers = (nn.Linear(784, 300), nn.Tanh(), nn.Linear(300, 100), nn.Tanh(), nn.Linear(100, 10))
    return nn.Sequential(*layers)


@pytest.mark.parametrize("name", list(zoo.ENTRIES))
def test_a_net_of_the_zoo_is_proposed_by_its_names(name: str) -> None:
    state = {n: t for n, t in zoo.seeded(name, 1).state_dict().items() if not n.endswith(zoo.COUNTER)}
    found = propose(bare(state))
    assert found is not None
    assert (found.name, found.is_exact) == (name, True)
    assert take(bare(state)).fingerprint == zoo.bundle_of(name, state).fingerprint


def test_other_names_are_mapped_in_their_order() -> None:
    net = sequence()
    found = propose(bare(dict(net.state_dict())))
    assert found is not None
    assert not found.is_exact
    assert found.names == {
        "0.weight": "fc1.weight",
        "0.bias": "fc1.bias",
        "2.weight": "fc2.weight",
        "2.bias": "fc2.bias",
        "4.weight": "fc3.weight",
        "4.bias": "fc3.bias",
    }
    taken = take(bare(dict(net.state_dict())), KNOWN)
    assert taken.arch.name == KNOWN
    assert torch.equal(taken.params["fc2.weight"].decode(), net[2].weight)
    assert list(taken.params) == list(recognise.zoo_shapes(KNOWN))


def renamed(name: str) -> dict[str, Tensor]:
    """A zoo net whose last layer is called otherwise, its names sorted as safetensors does."""
    state = zoo.seeded(name, 1).state_dict()
    return {n.replace("fc.", "linear."): state[n] for n in sorted(state) if not n.endswith(zoo.COUNTER)}


def test_sorted_names_find_their_modules_by_name_and_number() -> None:
    state = renamed("resnet-20")
    taken = take(bare(state))
    assert taken.arch.name == "resnet-20"
    for name, tensor in state.items():
        assert torch.equal(taken.params[name.replace("linear.", "fc.")].decode(), tensor)


def test_numbers_in_sorted_names_are_read_as_numbers() -> None:
    names = sorted(f"body.{i}.weight" for i in range(12))
    assert names[2] == "body.10.weight"
    wanted = dict.fromkeys((f"conv{i}.weight" for i in range(12)), (4, 4))
    assert mapping(dict.fromkeys(names, (4, 4)), wanted) == {
        f"body.{i}.weight": f"conv{i}.weight" for i in range(12)
    }


def test_names_without_modules_go_by_order_and_other_orders_by_none() -> None:
    wanted = {"fc1.weight": (3, 2), "fc1.bias": (3,), "fc2.weight": (5, 3), "fc2.bias": (5,)}
    flat = {"W1": (3, 2), "b1": (3,), "W2": (5, 3), "b2": (5,)}
    assert mapping(flat, wanted) == dict(zip(flat, wanted, strict=True))
    turned = {"b2": (5,), "W2": (5, 3), "W1": (3, 2), "b1": (3,)}
    assert mapping(turned, wanted) is None
    assert mapping({**flat, "b3": (1,)}, wanted) is None
    assert mapping({**flat, "b2": (6,)}, wanted) is None


def test_a_wrong_name_is_refused_with_the_one_that_fits() -> None:
    state = bare(dict(sequence().state_dict()))
    with pytest.raises(SlimscopeError, match="do not fit lenet-5: they fit lenet-300-100"):
        take(state, "lenet-5")
    with pytest.raises(SlimscopeError, match="'lenet-7' is not in the zoo"):
        take(state, "lenet-7")
    with pytest.raises(SlimscopeError, match="do not fit any net of the zoo: they can be explored"):
        take(bare({"w": torch.ones(2, 2)}))


def test_bare_keeps_all_tensors_and_runs_nothing() -> None:
    known = zoo.load(KNOWN)
    plain = recognise.bare(known)
    assert not plain.arch.runs
    assert dict(plain.params) == dict(known.params)


def test_a_proposal_says_all_that_shapes_do_not_tell() -> None:
    found = propose(bare(dict(sequence().state_dict())))
    assert found is not None
    for said in ("under other names", "LeNet-300-100", "ReLU", "mnist", "mean 0.1307", "deviation 0.3081"):
        assert said in found.sentence
