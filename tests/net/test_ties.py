"""A tensor with several names is stored, counted, packed and shown once, and stays one when it is trained."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import engine.techniques  # noqa: F401  (fills the registry)
from engine.data import user, user_parts
from engine.figures import count, measure, theory
from engine.file import intake, packfile
from engine.net import kinds, sources, zoo
from engine.recipe import run
from engine.types import TIES, Arch, Bundle, SlimscopeError, Step, weight_layers

PARAMETERS = 20 * 16 + 16 * 16 + 16 + 20  # the embedding is the classifier, which has a bias of its own


class Tied(nn.Module):
    """A classifier of tokens whose last layer is its embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.mix, self.out = nn.Embedding(20, 16), nn.Linear(16, 16), nn.Linear(16, 20)
        self.out.weight = self.tokens.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.relu(self.mix(self.tokens(x)))).mean(1)  # type: ignore[no-any-return]


class Twins(nn.Module):
    """Two convolutions with one kernel, and a linear layer under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.two.weight = self.one.weight
        self.out = nn.Linear(4, 3)
        self.same = self.out

    def forward(self, x: Tensor) -> Tensor:
        return self.same(torch.relu(self.two(torch.relu(self.one(x)))).mean((2, 3)))  # type: ignore[no-any-return]


def parts(*inputs: Tensor) -> tuple[TensorDataset, ...]:
    return tuple(TensorDataset(x, torch.arange(len(x)) % 3) for x in inputs)


@pytest.fixture
def tied(monkeypatch: pytest.MonkeyPatch) -> tuple[nn.Module, Bundle]:
    monkeypatch.setenv(user.VARIABLE, "")
    torch.manual_seed(0)
    model = Tied().eval()
    data = user_parts.task_of(parts(*(torch.randint(20, (n, 7)) for n in (60, 30, 30))), "tied")
    return model, sources.adopt(model, data)[0]


@pytest.fixture
def twins(monkeypatch: pytest.MonkeyPatch) -> Bundle:
    monkeypatch.setenv(user.VARIABLE, "")
    torch.manual_seed(0)
    data = user_parts.task_of(parts(*(torch.randn(n, 4, 6, 6) for n in (60, 30, 30))), "twins")
    return sources.adopt(Twins().eval(), data)[0]


def test_it_is_stored_and_counted_once(tied: tuple[nn.Module, Bundle]) -> None:
    model, bundle = tied
    assert list(bundle.params) == ["tokens.weight", "mix.weight", "mix.bias", "out.bias"]
    assert count.parameters(bundle).value == PARAMETERS == sum(p.numel() for p in model.parameters())
    assert list(weight_layers(bundle)) == ["tokens", "mix"]
    assert set(bundle.state()) == set(model.state_dict())
    assert bundle.state()["out.weight"] is bundle.state()["tokens.weight"]
    assert bundle.origin.params["tokens.weight"].decode().equal(model.state_dict()["out.weight"])


def test_its_macs_are_those_of_every_use(tied: tuple[nn.Module, Bundle]) -> None:
    used = kinds.weight_table(tied[1])["macs"]
    assert used.to_dict() == {"tokens.weight": 7 * 20 * 16, "mix.weight": 7 * 16 * 16}


def test_the_ledger_and_the_file_hold_it_once(tied: tuple[nn.Module, Bundle]) -> None:
    bundle = tied[1]
    rows = packfile.sections(bundle)
    assert rows["bytes"].sum() == len(packfile.pack(bundle)) < 4 * PARAMETERS + 500
    assert set(rows["tensor"]) == {"", *bundle.params}
    ledger = {figure.name: figure.value for figure in theory.ledger(bundle)}
    assert ledger["packed bits + scales"] == 4 * PARAMETERS
    assert ledger["dense file"] == theory.dense_file(bundle).value < 4 * PARAMETERS + 400


def test_packed_and_rebuilt_it_answers_as_before(tied: tuple[nn.Module, Bundle]) -> None:
    model, bundle = tied
    again = packfile.unpack(packfile.pack(bundle))
    assert packfile.difference(bundle, again) is None
    assert again.fingerprint == bundle.fingerprint
    inputs = torch.randint(20, (5, 7))
    assert torch.equal(zoo.build(again)(inputs), model(inputs))


def test_a_fork_trains_one_tensor(tied: tuple[nn.Module, Bundle]) -> None:
    net = zoo.fork(tied[1])
    assert net.get_parameter("out.weight") is net.get_parameter("tokens.weight")
    assert sum(p.numel() for p in net.parameters()) == PARAMETERS


@pytest.mark.parametrize(
    ("technique", "settings"),
    [
        ("prune_weights", {"sparsity": 0.5}),
        ("quantize", {"bits": 4}),
        ("finetune", {"epochs": 1}),
        ("lottery_ticket", {"epochs": 1, "rounds": 1, "start": "seed"}),
    ],
)
def test_techniques_keep_it_one(
    tied: tuple[nn.Module, Bundle], technique: str, settings: dict[str, object]
) -> None:
    bundle = tied[1]
    data = sources.data(bundle.arch)
    after, _ = run.apply(bundle, Step(technique, settings), data)
    assert list(after.params) == list(bundle.params)
    assert after.fingerprint != bundle.fingerprint
    again = packfile.unpack(packfile.pack(after))
    assert torch.equal(measure.predictions(again, data.test), measure.predictions(after, data.test))


def test_a_layer_under_two_names_and_a_shared_kernel(twins: Bundle) -> None:
    assert twins.arch.ties == {
        "two.weight": "one.weight",
        "same.weight": "out.weight",
        "same.bias": "out.bias",
    }
    assert count.parameters(twins).value == 4 * 4 * 9 + 2 * 4 + 4 * 3 + 3
    macs = kinds.weight_table(twins)["macs"].to_dict()
    assert macs == {"one.weight": 2 * 36 * 144, "out.weight": 12}


def test_what_would_tear_it_apart_leaves_it_or_is_refused(twins: Bundle) -> None:
    after, report = run.apply(twins, Step("low_rank", {"by": "rank", "rank": 1}), None)
    why = dict(zip(report.tables["layers"]["layer"], report.tables["layers"]["why"], strict=True))
    assert "shares its numbers" in why["one"]
    assert after.arch.edits == ()
    with pytest.raises(SlimscopeError, match="are one tensor"):
        run.apply(twins, Step("prune_filters", {"removed": 0.3}), sources.data(twins.arch))
    with pytest.raises(SlimscopeError, match="layer 'two' shares its numbers"):
        zoo.skeleton(twins.arch.edit("split", layer="two", rank=1, form="channel"))


def test_a_net_without_ties_says_nothing_of_them() -> None:
    bundle = zoo.load("mlp-32")
    assert bundle.arch.ties == {}
    assert bundle.arch.data == ["mlp-32", []]
    assert Arch.from_data(bundle.arch.data) == bundle.arch


def test_weights_that_differ_do_not_become_one(tied: tuple[nn.Module, Bundle]) -> None:
    bundle = tied[1]
    state = {name: tensor.clone() for name, tensor in bundle.state().items()}
    assert sources.bundle_of(bundle.arch, state).params.keys() == bundle.params.keys()
    state["out.weight"][0, 0] += 1
    with pytest.raises(SlimscopeError, match=r"'out\.weight' and 'tokens\.weight' are one tensor"):
        sources.bundle_of(bundle.arch, state)


@pytest.mark.parametrize(
    "ties",
    [
        {},
        {"out.weight": "mix.weight"},
        {"out.weight": "nowhere"},
        {"out.weight": "tokens.weight", "mix.bias": "out.bias"},
        {"out.weight": 3},
        "out.weight",
    ],
)
def test_a_file_with_other_ties_is_refused(tied: tuple[nn.Module, Bundle], ties: object) -> None:
    arch = Arch(tied[1].arch.name, (), {**tied[1].arch.config, TIES: ties})
    bundle = Bundle(arch, tied[1].params)
    with pytest.raises(SlimscopeError, match="ties"):
        packfile.admit(packfile.pack(bundle))


def test_a_net_of_the_zoo_has_no_ties() -> None:
    bundle = zoo.load("mlp-32")
    arch = Arch("mlp-32", (), {TIES: {"fc1.bias": "fc2.bias"}})
    with pytest.raises(SlimscopeError, match="ties"):
        packfile.admit(packfile.pack(bundle.become(bundle.params, arch)))


def test_an_uploaded_state_dict_has_it_once(tied: tuple[nn.Module, Bundle], tmp_path: Path) -> None:
    model = tied[0]
    path = tmp_path / "net.pt"
    torch.save(model.state_dict(), path)
    for bundle in (intake.read(path.read_bytes(), path.name)[0], intake.find(str(path))[0]):
        assert bundle.arch.data == ["bare", [], {TIES: {"out.weight": "tokens.weight"}}]
        assert count.parameters(bundle).value == PARAMETERS
        assert {figure.name for figure in theory.ledger(bundle)} >= {"dense file", "file size"}
        again = packfile.admit(packfile.pack(bundle))
        assert again.state().keys() == model.state_dict().keys()
