"""Multiply-adds: torch's own counter as the oracle, hand-worked numbers where it counts nothing, refusals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import odd_models
import own_models
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from torchinfo import summary

from engine.data import user_parts
from engine.net import kinds, sources, zoo
from engine.types import Arch, Bundle, SlimscopeError


def by_torch(model: nn.Module, *inputs: Tensor) -> int:
    """Half of what FlopCounterMode says, with gradients and attention as plain products; never 0."""
    model = model.eval().requires_grad_(True)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.enable_grad():
        model(*inputs)
    assert counter.get_total_flops() > 0
    return int(counter.get_total_flops()) // 2


def ours(model: nn.Module, *inputs: Tensor) -> int:
    return int(kinds.layer_table(model, inputs)["macs"].sum())


WITHOUT_LSTM = [name for name in zoo.ENTRIES if "lstm" not in name]


@pytest.mark.parametrize("name", WITHOUT_LSTM)
def test_the_zoo_equals_torchs_counter(name: str) -> None:
    arch = Arch(name)
    net, inputs = zoo.blank(arch), sources.inputs(arch)
    assert ours(net, inputs) == by_torch(net, inputs)


@pytest.mark.parametrize("kind", [kind for kind in own_models.KINDS if kind != "GRU"])
def test_nets_of_users_equal_torchs_counter(kind: str) -> None:
    net, inputs = own_models.model(kind), own_models._inputs(own_models.KINDS[kind], 1)
    assert ours(net, inputs) == by_torch(net, inputs)


def image(*shape: int) -> Callable[[], Tensor]:
    return lambda: torch.zeros(shape)


LAYERS: dict[str, tuple[Callable[[], nn.Module], Callable[[], Tensor]]] = {
    "linear over a sequence": (lambda: nn.Linear(5, 7), image(1, 6, 5)),
    "grouped": (lambda: nn.Conv2d(8, 12, 3, 2, 1, groups=4), image(1, 8, 9, 9)),
    "depthwise, no batch": (lambda: nn.Conv2d(8, 8, 3, groups=8), image(8, 9, 9)),
    "dilated 1-D": (lambda: nn.Conv1d(3, 5, 3, dilation=2), image(1, 3, 20)),
    "3-D": (lambda: nn.Conv3d(2, 3, 3), image(1, 2, 5, 6, 7)),
    "transposed 1-D": (lambda: nn.ConvTranspose1d(4, 6, 3, stride=2), image(1, 4, 9)),
    "transposed 2-D, grouped": (lambda: nn.ConvTranspose2d(4, 6, 3, 2, groups=2), image(1, 4, 5, 5)),
    "encoder layer, batch first": (
        lambda: nn.TransformerEncoderLayer(16, 4, 24, batch_first=True),
        image(1, 7, 16),
    ),
    "encoder layer, sequence first, norm first": (
        lambda: nn.TransformerEncoderLayer(16, 4, 24, norm_first=True),
        image(7, 1, 16),
    ),
    "norms and activations": (
        lambda: nn.Sequential(
            nn.Conv1d(2, 4, 1), nn.BatchNorm1d(4), nn.PReLU(4), nn.MaxPool1d(2), nn.LayerNorm([4, 3])
        ),
        image(1, 2, 6),
    ),
    "RMS norm": (lambda: nn.Sequential(nn.Linear(4, 4), nn.RMSNorm(4), nn.GELU()), image(1, 3, 4)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_equals_torchs_counter(name: str) -> None:
    make, inputs = LAYERS[name]
    assert ours(make(), inputs()) == by_torch(make(), inputs())


class Attends(nn.Module):
    """One attention over a query and something longer that it looks into."""

    def __init__(self, **settings: object) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, **settings)

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return self.attention(value=value, query=query, key=key)[0]  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "settings",
    [
        {"batch_first": True},
        {"batch_first": True, "kdim": 5, "vdim": 6},
        {"batch_first": True, "add_bias_kv": True},
        {"batch_first": True, "add_zero_attn": True},
    ],
)
def test_attention_over_another_sequence_equals_torchs_counter(settings: dict[str, int]) -> None:
    widths = settings.get("kdim", 8), settings.get("vdim", 8)
    inputs = torch.zeros(2, 3, 8), torch.zeros(2, 7, widths[0]), torch.zeros(2, 7, widths[1])
    assert ours(Attends(**settings), *inputs) == by_torch(Attends(**settings), *inputs)


def test_a_transformer_by_hand() -> None:
    """Seven tokens of 16: projections 7 x 4 x 256, both products 2 x 7 x 7 x 16, then 24 hidden units."""
    table = kinds.layer_table(own_models.model("transformer"), torch.zeros(1, 7, dtype=torch.long))
    macs = dict(zip(table["layer"], table["macs"], strict=True))
    assert macs["layers.layers.0.self_attn"] == 7 * 4 * 16 * 16 + 2 * 7 * 7 * 16
    assert macs["layers.layers.1.linear1"] == macs["layers.layers.1.linear2"] == 7 * 16 * 24
    assert (macs["tokens"], macs["out"]) == (0, 16 * 3)
    assert sum(macs.values()) == 28_272


LSTM, GRU = 4, 3  # gates


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (nn.LSTM(5, 8), 6 * LSTM * 8 * (5 + 8)),
        (nn.LSTM(5, 8, 2, bidirectional=True), 6 * 2 * LSTM * 8 * ((5 + 8) + (16 + 8))),
        (nn.LSTM(5, 8, proj_size=3), 6 * (LSTM * 8 * (5 + 3) + 3 * 8)),
        (nn.LSTM(5, 8, 2, proj_size=3), 6 * (LSTM * 8 * (5 + 3) + 24 + LSTM * 8 * (3 + 3) + 24)),
        (nn.GRU(5, 8), 6 * GRU * 8 * (5 + 8)),
        (nn.GRU(5, 8, 2, bias=False), 6 * GRU * 8 * ((5 + 8) + (8 + 8))),
    ],
)
@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.parametrize("batch_first", [True, False])
def test_recurrent_layers_by_hand(layer: nn.RNNBase, expected: int, batch_first: bool) -> None:
    layer.batch_first = batch_first
    inputs = torch.zeros(1, 6, 5) if batch_first else torch.zeros(6, 1, 5)
    assert ours(layer, inputs) == expected
    assert ours(layer, torch.zeros(6, 5)) == expected  # without a batch


@given(st.integers(1, 4), st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(5, 9))
def test_any_convolution_equals_torchs_counter(
    groups: int, wide: int, stride: int, kernel: int, size: int
) -> None:
    layer = nn.Conv2d(2 * groups, wide * groups, kernel, stride, groups=groups)
    inputs = torch.zeros(1, 2 * groups, size, size + 1)
    assert ours(layer, inputs) == by_torch(layer, inputs)


class Twice(nn.Module):
    """A layer that is called twice, and has two names."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.same = self.layer

    def forward(self, x: Tensor) -> Tensor:
        return self.same(self.layer(x))  # type: ignore[no-any-return]


def test_a_layer_that_is_called_twice_counts_twice_in_one_row() -> None:
    table = kinds.layer_table(Twice(), torch.zeros(1, 4))
    assert table[["layer", "macs"]].values.tolist() == [["layer", 32]]


class TiedByHand(nn.Module):
    """Attention written out, and a classifier that is the embedding: products in the model's own code."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.mix = nn.Embedding(10, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.tokens(x)
        x = F.scaled_dot_product_attention(x, x, self.mix(x))
        return F.linear(x, self.tokens.weight)


def test_products_outside_of_layers_are_counted() -> None:
    model, inputs = TiedByHand(), torch.zeros(1, 3, dtype=torch.long)
    table = kinds.layer_table(model, inputs)
    macs = dict(zip(table["layer"], table["macs"], strict=True))
    assert macs == {"tokens": 3 * 10 * 4, "mix": 3 * 16, "model": 2 * 3 * 3 * 4}
    assert ours(model, inputs) == by_torch(model, inputs)


class Bare(nn.Module):
    """A matrix without a layer around it; what happens to it is told."""

    def __init__(self, use: Callable[[Tensor, Tensor], Tensor], *shape: int) -> None:
        super().__init__()
        self.use, self.matrix = use, nn.Parameter(torch.ones(shape))
        self.out = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.use(x, self.matrix))  # type: ignore[no-any-return]


REFUSED: dict[str, Callable[[], nn.Module]] = {
    "product": lambda: Bare(lambda x, m: x @ m, 4, 4),
    "transposed view": lambda: Bare(lambda x, m: F.linear(x, m), 4, 4),
    "sum of products": lambda: Bare(lambda x, m: torch.einsum("bi,ij->bj", x, m), 4, 4),
    "element by element": lambda: Bare(lambda x, m: x * m, 1, 4),
    "masked": lambda: Bare(lambda x, m: F.linear(x, m * (m > 0)), 4, 4),
    "vector": lambda: Bare(lambda x, m: x * torch.mv(x.T @ x, m), 4),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_bare_matrix_that_multiplies_is_refused(name: str) -> None:
    inside = nn.Sequential(nn.Identity(), REFUSED[name]())
    with pytest.raises(SlimscopeError, match=r"'1' \(Bare\) are not known.*'matrix'"):
        kinds.layer_table(inside, torch.ones(1, 4))


@pytest.mark.parametrize(
    "use",
    [
        lambda x, m: x + m,
        lambda x, m: x - m[:1],
        lambda x, m: x + m.T.reshape(1, 4),
        lambda x, m: x + F.embedding(torch.zeros(1, dtype=torch.long), m),
    ],
)
def test_a_bare_matrix_that_only_adds_multiplies_nothing(use: Callable[[Tensor, Tensor], Tensor]) -> None:
    assert ours(Bare(use, 1, 4), torch.ones(1, 4)) == 8


class OwnLinear(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.sign())


class Renamed(nn.Linear):
    pass


@pytest.mark.parametrize(
    ("layer", "inputs", "type_"),
    [
        (OwnLinear(4, 3), (torch.ones(1, 4),), "OwnLinear"),
        (nn.Bilinear(4, 4, 3), (torch.ones(1, 4), torch.ones(1, 4)), "Bilinear"),
    ],
)
def test_an_unknown_kind_is_refused(layer: nn.Module, inputs: tuple[Tensor, ...], type_: str) -> None:
    with pytest.raises(SlimscopeError, match=rf"'model' \({type_}\) are not known"):
        kinds.layer_table(layer, inputs)


def test_a_subclass_with_the_same_forward_is_the_same_kind() -> None:
    assert ours(Renamed(4, 3), torch.ones(1, 4)) == 12


def test_the_model_is_left_as_it_was() -> None:
    model = nn.Sequential(nn.Conv1d(2, 3, 1), nn.BatchNorm1d(3), nn.Dropout())
    model[2].eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    kinds.layer_table(model, torch.randn(1, 2, 4))
    assert [module.training for module in model.modules()] == [True, True, True, False]
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


@pytest.mark.parametrize("name", WITHOUT_LSTM)
def test_torchinfo_finds_the_same_layers_and_outputs(name: str) -> None:
    arch = Arch(name)
    net, inputs = zoo.blank(arch), sources.inputs(arch)
    listed = summary(net, input_data=inputs, verbose=0, device="cpu", mode="eval")
    names = {id(module): name for name, module in net.named_modules()}
    found = {
        names[id(info.module)]: " x ".join(map(str, info.output_size[1:]))
        for info in listed.summary_list
        if isinstance(info.module, nn.Linear | nn.Conv2d)
    }
    table = kinds.layer_table(net, inputs)
    table = table[table["type"].isin(("Linear", "Conv2d"))]
    assert dict(zip(table["layer"], table["output"], strict=True)) == found


@pytest.mark.parametrize("name", list(zoo.ENTRIES))
def test_rows_add_up(name: str) -> None:
    bundle = zoo.bundle_of(name, zoo.seeded(name, 0).state_dict())
    total = kinds.layer_macs(bundle)["macs"].sum()
    assert sum(kinds.macs_by_layer(bundle).values()) == total == kinds.weight_table(bundle)["macs"].sum()
    assert set(kinds.weight_table(bundle).index) <= {*bundle.params, kinds.BETWEEN}


def adopted(model: nn.Module, parts: Any) -> Bundle:
    return sources.adopt(model, user_parts.task_of(parts, "data"))[0]


def test_a_forward_that_branches_on_values_is_refused_with_both_counts() -> None:
    bundle = adopted(odd_models.branching(), odd_models.vectors())
    # 6 x 8 and 8 x 4 always, 8 x 8 of some inputs
    with pytest.raises(SlimscopeError, match=r"your model .* depend on its inputs, 80 and 144 were counted"):
        kinds.layer_macs(bundle)
    assert kinds.work(bundle) > 0  # an estimate of time is still there


@pytest.mark.parametrize("kind", list(own_models.KINDS))
def test_nets_that_take_one_way_are_counted_as_their_samples_are(kind: str) -> None:
    model, parts = own_models.model(kind), own_models.parts(kind)
    bundle = adopted(model, parts)
    assert sum(kinds.macs_by_layer(bundle).values()) == ours(model, parts[2].tensors[0][5:6])


def test_the_inputs_are_tried_once_for_each_architecture(monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = adopted(own_models.model("GRU"), own_models.parts("GRU"))
    first = kinds.macs_by_layer(bundle)
    monkeypatch.setattr(kinds, "_tallied", lambda *args: pytest.fail("it was run again"))
    assert kinds.macs_by_layer(bundle) == first
