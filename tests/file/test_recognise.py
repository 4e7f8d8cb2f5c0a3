"""What a file may be is proposed, never believed: names, order and shapes are all that there is to go by."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from engine.data import user
from engine.figures import count
from engine.file import intake, recognise
from engine.file.recognise import mapping, propose, take
from engine.net import sources, zoo
from engine.tensor.formats import Dense
from engine.types import Arch, Bundle, SlimscopeError

KNOWN = "lenet-300-100"


def bare(state: dict[str, Any]) -> Bundle:
    return Bundle(Arch("bare"), {name: Dense(tensor) for name, tensor in state.items()})


def sequence() -> nn.Sequential:
    """A user's net with the shapes of LeNet-300-100, and tanh in the place of ReLU."""
    torch.manual_seed(3)
    layers = (nn.Linear(784, 300), nn.Tanh(), nn.Linear(300, 100), nn.Tanh(), nn.Linear(100, 10))
    return nn.Sequential(*layers)


@pytest.mark.parametrize("name", list(zoo.KNOWN))
def test_a_net_of_the_zoo_is_proposed_by_its_names(name: str) -> None:
    state = {n: t for n, t in zoo.seeded(name, 1).state_dict().items() if not n.endswith(sources.COUNTER)}
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


def renamed_net(name: str) -> dict[str, Tensor]:
    """A zoo net whose last layer is called otherwise, its names sorted as safetensors does."""
    state = zoo.seeded(name, 1).state_dict()
    return {n.replace("fc.", "linear."): state[n] for n in sorted(state) if not n.endswith(sources.COUNTER)}


def test_sorted_names_find_their_modules_by_name_and_number() -> None:
    state = renamed_net("resnet-20")
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
    with pytest.raises(SlimscopeError, match="do not fit any model of the zoo: they can be explored"):
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


# ---------------------------------------------------------------- nets that others publish


def published(depth: int, bias: bool) -> nn.Sequential:
    """VGG for CIFAR as it is usually written, with the names of its usual checkpoints."""
    layers: list[nn.Module] = []
    before = 3
    for width, times in zip((64, 128, 256, 512, 512), zoo.STAGES[depth], strict=True):
        for _ in range(times):
            layers += [nn.Conv2d(before, width, 3, padding=1, bias=bias), nn.BatchNorm2d(width), nn.ReLU()]
            before = width
        layers.append(nn.MaxPool2d(2))
    if not bias:
        layers[-1] = nn.AvgPool2d(2)
    net = nn.Sequential()
    net.add_module("features", nn.Sequential(*layers))
    net.add_module("flat", nn.Flatten())
    net.add_module("classifier", nn.Linear(512, 10))
    return net


@pytest.mark.parametrize("depth", [11, 13, 16])
@pytest.mark.parametrize("bias", [True, False])
def test_a_published_vgg_answers_as_its_own_code(depth: int, bias: bool) -> None:
    torch.manual_seed(depth)
    net = published(depth, bias).eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.05, 0.2)
    state = {n: t for n, t in net.state_dict().items() if not n.endswith(sources.COUNTER)}
    taken = take(bare({n: state[n] for n in sorted(state)}))
    assert taken.arch.name == f"vgg-{depth}" + ("" if bias else "-unbiased")
    images = torch.randn(3, 3, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(zoo.build(taken)(images), net(images), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("depth", "weights"), [(32, 464_154), (44, 658_586), (56, 853_018), (110, 1_727_962)]
)
def test_a_published_resnet_is_known_by_names_that_end_in_linear(depth: int, weights: int) -> None:
    taken = take(bare(renamed_net(f"resnet-{depth}")))
    assert taken.arch.name == f"resnet-{depth}"
    assert count.parameters(taken).value == weights
    assert zoo.build(taken)(torch.zeros(1, 3, 32, 32)).shape == (1, 10)


def test_a_published_net_has_no_weights_here() -> None:
    assert not set(zoo.trained()) & set(zoo.PUBLIC)
    with pytest.raises(SlimscopeError, match="'resnet-56' is known by its shapes alone: bring a file"):
        zoo.load("resnet-56")


# ---------------------------------------------------------------- a user's own model

CODE = """
    import torch
    from torch import nn
    from torch.utils.data import TensorDataset

    class Tanh(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc1, self.fc2, self.fc3 = nn.Linear(784, 300), nn.Linear(300, 100), nn.Linear(100, 10)
        def forward(self, x):
            return self.fc3(torch.tanh(self.fc2(torch.tanh(self.fc1(x)))))

    def model():
        torch.manual_seed(0)
        return Tanh()

    def data():
        torch.manual_seed(1)
        inputs = torch.randn(300, 784)
        part = TensorDataset(inputs, inputs[:, :10].argmax(1))
        return part, part, part
"""


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A model with the names and shapes of LeNet-300-100, another activation and other data."""
    (tmp_path / "tanh_net.py").write_text(textwrap.dedent(CODE))
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv(user.VARIABLE, "")
    sources._nets.clear()
    user.name(f"{tmp_path}/tanh_net.py:model", f"{tmp_path}/tanh_net.py:data")
    return f"{tmp_path}/tanh_net.py"


def other_weights() -> dict[str, Tensor]:
    """Those of neither the zoo's net nor what the factory gives."""
    return {name: 0.9 * tensor for name, tensor in zoo.seeded(KNOWN, 7).state_dict().items()}


def test_weights_of_the_users_model_are_proposed_as_those_before_the_zoos(code: str) -> None:
    bundle = bare(other_weights())
    found = propose(bundle)
    assert found is not None
    assert (found.name, found.is_own, found.title) == ("user", True, "tanh_net:model")
    assert found.data == sources.task(sources.load_user().arch)
    assert "until you say --take-for user" in found.sentence
    taken = take(bundle, "user")
    assert taken.arch == sources.load_user().arch
    inputs = torch.randn(4, 784)
    w = other_weights()
    hidden = torch.tanh(inputs @ w["fc1.weight"].T + w["fc1.bias"])
    hidden = torch.tanh(hidden @ w["fc2.weight"].T + w["fc2.bias"])
    expected = hidden @ w["fc3.weight"].T + w["fc3.bias"]
    assert torch.allclose(zoo.build(taken)(inputs), expected, atol=1e-5)
    assert take(bundle).arch.name == KNOWN  # who says nothing of the user's net means the zoo's


def test_only_names_and_shapes_that_all_fit_are_the_users(code: str) -> None:
    for wrong in (
        {**other_weights(), "fc3.bias": torch.zeros(9)},
        {**other_weights(), "fc4.bias": torch.zeros(10)},
        {name.replace("fc", "layer"): tensor for name, tensor in other_weights().items()},
    ):
        found = propose(bare(wrong))
        assert found is None or not found.is_own
        with pytest.raises(SlimscopeError, match="do not fit tanh_net:model"):
            take(bare(wrong), "user")


def test_without_a_named_model_there_is_none_to_take_a_file_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(user.VARIABLE, "")
    found = propose(bare(other_weights()))
    assert found is not None
    assert found.name == KNOWN
    with pytest.raises(SlimscopeError, match="a model that nobody named"):
        take(bare(other_weights()), "user")


def test_the_command_line_fills_the_users_model_from_a_file(code: str, tmp_path: Path) -> None:
    file, out = tmp_path / "weights.safetensors", tmp_path / "out.slim"
    save_file(other_weights(), file)
    command = ["compress", str(file), "--model", f"{code}:model", "--data", f"{code}:data"]
    command += ["--recipe", "[]", "--out", str(out), "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "engine.cli", *command],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = {figure["name"]: figure for figure in json.loads(done.stdout)["figures"]}
    data, own = sources.data(sources.load_user().arch), intake.find(str(file), take_for="user")[0]
    assert own.fingerprint != sources.load_user().fingerprint
    right = (zoo.build(own)(data.test.images).argmax(1) == data.test.labels).float().mean()
    assert said["accuracy"]["value"] == pytest.approx(float(right))
    assert "n = 300" in said["accuracy"]["how"] or "of 300 samples" in said["accuracy"]["how"]
    assert intake.find(str(out))[0].arch == own.arch
