"""Who feeds whom, checked by hand: the zoo's models, and models that are easily drawn wrong."""

from __future__ import annotations

from collections.abc import Callable

import odd_models
import own_models
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine.data import user, user_parts
from engine.net import anatomy, kinds, sources, zoo
from engine.net.anatomy import Anatomy
from engine.tensor.formats import Dense
from engine.types import Arch, Bundle, weight_layers


@pytest.fixture(autouse=True)
def _nobody_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(user.VARIABLE, "")


def odd(make: Callable[[], nn.Module], parts: Callable[[], tuple]) -> Bundle:
    return sources.adopt(make(), user_parts.task_of(parts(), "odd"))[0]


def own(kind: str) -> Bundle:
    return sources.adopt(own_models.model(kind), user_parts.task_of(own_models.parts(kind), "own"))[0]


def fed(found: Anatomy) -> dict[str, list[str]]:
    """Node -> its sources; a shortcut has a star."""
    return {
        node.name: [e.source + "*" * e.shortcut for e in found.edges if e.target == node.name]
        for node in found.nodes
    }


def test_fully_connected_layers_stand_in_a_row() -> None:
    found = anatomy.of(zoo.initial("lenet-300-100"))
    assert fed(found) == {"input": [], "fc1": ["input"], "fc2": ["fc1"], "fc3": ["fc2"], "output": ["fc3"]}
    told = [(n.kind, n.output, n.weights, n.macs) for n in found.layers]
    assert told == [
        ("fully connected layer", (300,), 235_200, 235_200),
        ("fully connected layer", (100,), 30_000, 30_000),
        ("fully connected layer", (10,), 1_000, 1_000),
    ]
    assert (found.nodes[0].output, found.nodes[-1].output, found.note) == ((1, 28, 28), (10,), "")


def test_a_residual_model_has_a_shortcut_past_each_block() -> None:
    found = anatomy.of(zoo.initial("resnet-8"))
    assert fed(found) == {
        "input": [],
        "conv1": ["input"],
        "layer1.0.conv1": ["conv1"],
        "layer1.0.conv2": ["layer1.0.conv1"],
        "sum 1": ["conv1*", "layer1.0.conv2"],
        "layer2.0.conv1": ["sum 1"],
        "layer2.0.conv2": ["layer2.0.conv1"],
        "sum 2": ["sum 1*", "layer2.0.conv2"],
        "layer3.0.conv1": ["sum 2"],
        "layer3.0.conv2": ["layer3.0.conv1"],
        "sum 3": ["sum 2*", "layer3.0.conv2"],
        "fc": ["sum 3"],
        "output": ["fc"],
    }
    second = found.node("layer2.0.conv1")
    assert (second.kind, second.output) == ("3x3 convolution, stride 2", (32, 16, 16))
    assert (second.weights, second.macs) == (32 * 16 * 9, 32 * 16 * 9 * 16 * 16)


def test_recurrent_weights_read_their_own_state_beside_the_weights_of_the_input() -> None:
    found = anatomy.of(zoo.initial("lstm-mnist"))
    both = [["lstm.weight_ih_l0", "lstm.weight_hh_l0"], ["lstm.weight_ih_l1", "lstm.weight_hh_l1"]]
    assert fed(found) == {
        "input": [],
        both[0][0]: ["input"],
        both[0][1]: [],
        both[1][0]: both[0],
        both[1][1]: [],
        "fc": both[1],
        "output": ["fc"],
    }
    assert [node.name for node in found.nodes if node.loops] == [both[0][1], both[1][1]]
    assert found.node("lstm.weight_hh_l1").kind == "recurrent weights of an LSTM, layer 2"
    assert found.node("lstm.weight_ih_l0").macs == 28 * 4 * 128 * 28  # 28 rows of an image


def test_a_tied_weight_is_counted_once_and_a_layer_called_twice_loops() -> None:
    found = anatomy.of(odd(odd_models.tied, odd_models.words))
    assert fed(found) == {
        "input": [],
        "tokens": ["input"],
        "mix": ["tokens"],
        "out": ["mix"],
        "output": ["out"],
    }
    assert found.node("mix").loops
    last = found.node("out")
    assert (last.layer, last.weights, last.macs) == ("tokens", 0, 20)
    assert last.kind == "fully connected layer, with the weights of tokens"
    assert sum(node.weights for node in found.nodes) == 20 + 25


def test_a_transformer_has_two_shortcuts_in_each_layer() -> None:
    found = anatomy.of(own("transformer"))
    block = "layers.layers.0."
    assert {k: v for k, v in fed(found).items() if k.startswith((block, "sum 1", "sum 2", "places"))} == {
        "places": ["tokens"],
        f"{block}self_attn.in_proj_weight": ["places"],
        f"{block}self_attn.out_proj": [f"{block}self_attn.in_proj_weight"],
        "sum 1": ["places*", f"{block}self_attn.out_proj"],
        f"{block}linear1": ["sum 1"],
        f"{block}linear2": [f"{block}linear1"],
        "sum 2": ["sum 1*", f"{block}linear2"],
    }
    assert found.node(f"{block}self_attn.out_proj").kind == "output of attention"
    assert found.node("places").kind == "parameter of the model itself"


def test_branches_meet_side_by_side_and_depthwise_layers_are_called_so() -> None:
    branches = fed(anatomy.of(own("branches")))
    assert branches["concatenation 1"] == ["wide", "narrow"]
    assert branches["hidden"] == ["concatenation 1"]
    deep = anatomy.of(own("residual depthwise"))
    assert deep.node("blocks.3.place").kind == "depthwise 3x3 convolution"
    assert [e.target for e in deep.edges if e.shortcut] == [f"sum {i}" for i in range(1, 10)]


def test_a_layer_that_only_some_inputs_pass_is_drawn_and_said() -> None:
    found = anatomy.of(odd(odd_models.branching, odd_models.vectors))
    assert fed(found)["sum 1"] == ["first*", "maybe"]
    assert found.note.startswith("Which layers are used depends on what enters")


@pytest.mark.parametrize("name", ["lenet-5", "resnet-20", "vgg-small", "lstm-32", "mlp-500-300"])
def test_weights_and_multiply_adds_add_up_to_those_of_the_model(name: str) -> None:
    bundle = zoo.initial(name)
    found = anatomy.of(bundle)
    assert [node.layer for node in found.layers] == list(weight_layers(bundle))
    table = kinds.weight_table(bundle)
    assert sum(node.macs or 0 for node in found.layers) == table["macs"].sum()


def test_bare_weights_stand_in_the_order_of_the_file() -> None:
    params = zoo.initial("lenet-300-100").params
    found = anatomy.of(Bundle(Arch("bare"), params))
    assert fed(found) == {"fc1": [], "fc2": ["fc1"], "fc3": ["fc2"]}
    assert found.note.startswith("No known architecture")
    assert found.layers[0].macs is None


class OwnCode(nn.Module):
    """Writes into parts of a tensor, multiplies with a matrix of its own, and gates."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.gate = nn.Linear(6, 4), nn.Linear(6, 4), nn.Linear(8, 8)
        self.spare, self.last = nn.Linear(3, 3), nn.Parameter(torch.randn(8, 4))

    def forward(self, x: Tensor) -> Tensor:
        both = torch.zeros(len(x), 8)
        both[:, :4] = self.left(x)
        both[:, 4:] = self.right(x)
        both *= torch.sigmoid(self.gate(both))
        return F.relu(both) @ self.last


def test_code_of_a_users_own_is_followed_between_layers() -> None:
    found = anatomy.of(odd(OwnCode, odd_models.vectors))
    assert fed(found) == {
        "input": [],
        "left": ["input"],
        "right": ["input"],
        "concatenation 1": ["left", "right"],
        "gate": ["concatenation 1"],
        "product 1": ["concatenation 1*", "gate"],
        "last": ["product 1"],
        "output": ["last"],
        "spare": [],
    }
    assert not found.node("spare").used


class Leaving(nn.Module):
    """Its values leave torch on their way."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.out = nn.Linear(6, 8), nn.Linear(8, odd_models.CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return torch.from_numpy(self.out(self.first(x)).detach().numpy() + 1)


def test_values_that_leave_torch_leave_a_row_of_layers_and_a_sentence() -> None:
    found = anatomy.of(odd(Leaving, odd_models.vectors))
    assert fed(found) == {"first": [], "out": ["first"]}
    assert "could not be followed" in found.note


def test_a_split_layer_is_two_in_a_row_and_a_rounded_input_is_none() -> None:
    whole = zoo.initial("lenet-300-100")
    arch = whole.arch.edit("split", layer="fc1", rank=8, form="linear")
    arch = arch.edit("quantize_input", layer="fc2", bits=8, symmetric=False, dynamic=True)
    params = zoo.skeleton(arch).state_dict()
    split = Bundle(arch, {name: Dense(torch.zeros(tensor.shape)) for name, tensor in params.items()})
    found = fed(anatomy.of(split))
    assert list(found) == ["input", "fc1.0", "fc1.1", "fc2", "fc3", "output"]
    assert (found["fc1.1"], found["fc2"]) == (["fc1.0"], ["fc1.1"])
