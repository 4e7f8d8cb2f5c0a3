"""Derivatives by each weight: by hand, against torch.func, and where Gauss-Newton is the Hessian."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import odd_models
import pandas as pd
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, hessian, jacrev
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from engine.data.sets import Samples
from engine.net import curvature, zoo
from engine.net.surgery import quantize_input
from engine.tensor import scores
from engine.types import SlimscopeError


def images(n: int, *shape: int, classes: int = 3, seed: int = 0) -> Samples:
    """Random images with random labels: no net gets them all right."""
    source = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (n, *shape), generator=source, dtype=torch.uint8)
    labels = torch.randint(0, classes, (n,), generator=source)
    return Samples(pixels, labels, (0.5,) * shape[0], (0.25,) * shape[0])


def seeded(make: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()


def convolutional(act: Callable[[], nn.Module] = nn.ReLU) -> nn.Module:
    net = nn.Sequential(
        nn.Conv2d(2, 3, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(3),
        act(),
        nn.Conv2d(3, 4, 2, dilation=2),
        act(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(4, 5),
        act(),
        nn.Linear(5, 3),
    )
    norm = net[1]
    assert isinstance(norm, nn.BatchNorm2d)
    norm.running_mean, norm.running_var = torch.tensor([0.1, -0.2, 0.3]), torch.tensor([0.5, 1.5, 2.0])
    return net


class Rows(nn.Module):
    """A small recurrent net over the rows of an image."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(4, 3, 2, batch_first=True)
        self.fc = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.lstm(x.squeeze(1))[0][:, -1])  # type: ignore[no-any-return]


class Mixed(nn.Module):
    """Linear layers at each row of an image, and at each place of it; attention between the rows."""

    def __init__(self) -> None:
        super().__init__()
        self.places = nn.Linear(4, 4)
        self.query, self.key, self.value = (nn.Linear(4, 4) for _ in range(3))
        self.fc = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        rows = F.gelu(self.places(x)).mean(1)  # (n, channels, rows, 4) -> (n, rows, 4)
        shares = (self.query(rows) @ self.key(rows).mT).softmax(-1)
        return self.fc((shares @ self.value(rows)).mean(1))  # type: ignore[no-any-return]


def loss_of(net: nn.Module, samples: Samples, name: str) -> Callable[[Tensor], Tensor]:
    """The mean cross-entropy as a function of one weight."""
    net.eval()
    inputs = samples.inputs().to(net.get_parameter(name).dtype)
    return lambda w: F.cross_entropy(functional_call(net, {name: w}, (inputs,)), samples.labels)


def hessian_diagonal(net: nn.Module, samples: Samples, name: str) -> Tensor:
    weight = net.get_parameter(name).detach()
    with warnings.catch_warnings():  # torch.func loads parts of torch that say they are old
        warnings.simplefilter("ignore", DeprecationWarning)
        matrix = hessian(loss_of(net, samples, name))(weight).detach()
    return matrix.reshape(weight.numel(), -1).diagonal().reshape(weight.shape)


def brute_force(net: nn.Module, samples: Samples, name: str) -> Tensor:
    """J^T (diag(p) - p p^T) J of each sample by itself, from its whole Jacobian."""
    net.eval()
    weight, total = net.get_parameter(name).detach(), 0.0
    for i in range(len(samples)):
        inputs = samples.inputs(slice(i, i + 1))

        def logits(w: Tensor, x: Tensor = inputs) -> Tensor:
            return functional_call(net, {name: w}, (x,))[0]

        jacobian = jacrev(logits)(weight).flatten(1)
        p = logits(weight).softmax(0)
        middle = p.diag() - torch.outer(p, p)
        total = total + (jacobian.T @ middle @ jacobian).diagonal()
    return total.reshape(weight.shape) / len(samples)


def weights_of(net: nn.Module) -> list[str]:
    return [name for name, p in net.named_parameters() if p.dim() >= 2]


def close(found: Tensor, expected: Tensor) -> None:
    expected = expected.detach()
    torch.testing.assert_close(found, expected, rtol=2e-4, atol=2e-6 * float(expected.abs().max()))


# ---------------------------------------------------------------- by hand


def test_one_weight_per_class_by_hand() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(1, 2, bias=False))
    net[1].weight.data.zero_()
    samples = Samples(
        torch.tensor([255, 51], dtype=torch.uint8).view(2, 1, 1, 1), torch.tensor([0, 1]), (0.0,), (0.5,)
    )
    # inputs 2 and 0.4, both classes at 1/2: p (1 - p) x^2 is 1 and 0.04; the gradient (p - y) x: -1, +0.2
    assert curvature.diagonal(net, samples)["1.weight"].flatten().tolist() == pytest.approx([0.52, 0.52])
    assert curvature.gradient(net, samples)["1.weight"].flatten().tolist() == pytest.approx([-0.4, 0.4])


# ---------------------------------------------------------------- where it is the Hessian


def test_of_a_softmax_layer_it_is_the_hessian() -> None:
    net, samples = seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(12, 3))), images(30, 1, 3, 4)
    close(curvature.diagonal(net, samples)["1.weight"], hessian_diagonal(net, samples, "1.weight"))


@pytest.mark.parametrize("name", weights_of(convolutional()))
def test_of_a_piecewise_linear_net_it_is_the_hessian(name: str) -> None:
    net, samples = seeded(convolutional), images(23, 2, 9, 9)
    assert curvature.diagonal(net, samples)[name].any()
    close(curvature.diagonal(net, samples)[name], hessian_diagonal(net, samples, name))


def test_of_a_smooth_net_it_is_not_but_still_gauss_newton() -> None:
    net, samples = seeded(lambda: convolutional(nn.Tanh)), images(12, 2, 9, 9)
    found = curvature.diagonal(net, samples)
    for name in weights_of(net):
        close(found[name], brute_force(net, samples, name))
    real = hessian_diagonal(net, samples, "3.weight")
    assert float((found["3.weight"] - real).abs().max()) > 0.05 * float(real.abs().max())


@pytest.mark.parametrize("make", [Rows, Mixed, convolutional])
def test_it_is_gauss_newton_of_all_samples_by_brute_force(make: Callable[[], nn.Module]) -> None:
    net, samples = seeded(make), images(7, *((2, 9, 9) if make is convolutional else (1, 5, 4)))
    found = curvature.diagonal(net, samples)
    assert sorted(found) == sorted(weights_of(net))
    for name in found:
        close(found[name], brute_force(net, samples, name))


class PlacesFirst(nn.Module):
    """A transformer that wants places before samples, and a layer over all rows of all samples at once."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = nn.Linear(4, 4)
        self.encoder = nn.TransformerEncoderLayer(4, 2, 6, dropout=0.0)
        self.fc = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        rows = F.gelu(self.rows(x.flatten(0, 2))).view(len(x), -1, 4)
        return self.fc(self.encoder(rows.transpose(0, 1)).mean(0))  # type: ignore[no-any-return]


@pytest.mark.parametrize("samples", [3, 5, 7])  # fewer than places, as many, more
def test_rows_that_are_no_samples_are_not_taken_for_some(samples: int) -> None:
    net, seen = seeded(PlacesFirst), images(samples, 1, 5, 4)
    found = curvature.diagonal(net, seen)
    for name in found:
        with sdpa_kernel(SDPBackend.MATH):  # torch.func warns of any other
            close(found[name], brute_force(net, seen, name))


def test_linear_layers_at_each_place_take_one_pass_for_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """One pass for each class and sample would hold as many copies of all weights as there are of these."""
    left: list[set[str]] = []
    slowly = curvature._one_by_one
    monkeypatch.setattr(
        curvature,
        "_one_by_one",
        lambda net, rest, inputs: left.append(set(rest)) or slowly(net, rest, inputs),
    )
    curvature.diagonal(seeded(Mixed), images(3, 1, 5, 4))
    assert left == [set()]


def test_a_layer_that_is_used_twice_or_grouped_is_exact_too() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.grouped = nn.Conv2d(2, 4, 2, groups=2)
            self.twice = nn.Linear(4, 4)
            self.last = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = self.grouped(x).amax((2, 3))
            return self.last(F.relu(self.twice(F.relu(self.twice(x)))))  # type: ignore[no-any-return]

    net, samples = seeded(Odd, 4), images(6, 2, 4, 4)
    found = curvature.diagonal(net, samples)
    for name in weights_of(net):
        close(found[name], brute_force(net, samples, name))


# ---------------------------------------------------------------- the rest


def test_the_gradient_is_that_of_the_mean_loss() -> None:
    net, samples = seeded(convolutional), images(45, 2, 9, 9)  # more than two batches
    F.cross_entropy(net.eval()(samples.inputs()), samples.labels).backward()  # type: ignore[no-untyped-call]
    for name, value in curvature.gradient(net, samples).items():
        close(value, net.get_parameter(name).grad)  # type: ignore[arg-type]


def test_rounded_inputs_pass_derivatives_on() -> None:
    def make() -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(12, 4), nn.ReLU(), nn.Linear(4, 3))

    plain, rounded, samples = seeded(make), seeded(make), images(20, 1, 3, 4)
    quantize_input(rounded, layer="3", bits=8, symmetric=False, dynamic=True)
    expected, found = curvature.diagonal(plain, samples), curvature.diagonal(rounded, samples)
    for name, value in expected.items():
        assert float((found[name] - value).abs().max()) < 0.05 * float(value.max())


def test_of_a_bundle_it_is_remembered_for_these_samples_and_this_seed() -> None:
    bundle, samples = zoo.load("mlp-32"), images(40, 1, 28, 28, classes=10)
    found = curvature.diagonal_of(bundle, samples, 20, 0)
    assert curvature.diagonal_of(bundle, samples, 20, 0) is found
    other = curvature.diagonal_of(bundle, samples, 20, 1)
    assert not torch.equal(other["fc1.weight"], found["fc1.weight"])
    expected = curvature.diagonal(zoo.fork(bundle), samples.stratified(20, 0))
    assert torch.equal(expected["fc1.weight"], found["fc1.weight"])
    with pytest.raises(TypeError):
        found["fc1.weight"] = other["fc1.weight"]  # type: ignore[index]


# ---------------------------------------------------------------- what it is for


def trained(samples: Samples) -> nn.Module:
    """A net at a minimum of its loss: few weights, many samples with labels that can't all be learned."""
    net = seeded(
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(12, 6), nn.ReLU(), nn.Linear(6, 3)), 1
    ).double()
    inputs, labels = samples.inputs().double(), samples.labels
    search = torch.optim.LBFGS(
        net.parameters(), max_iter=2000, tolerance_grad=1e-9, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        search.zero_grad()
        loss = F.cross_entropy(net(inputs), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    search.step(closure)  # type: ignore[arg-type]
    return net.float()


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_near_a_minimum_brain_damage_ranks_single_weights_better_than_magnitude(seed: int) -> None:
    samples = images(400, 1, 3, 4, seed=seed)
    net = trained(samples)
    bends = curvature.diagonal(net, samples)
    net, rows = net.double().requires_grad_(False), []
    for name in weights_of(net):
        loss, weight = loss_of(net, samples, name), net.get_parameter(name)
        whole, saliency = float(loss(weight)), scores.brain_damage(weight, bends[name]).flatten().tolist()
        for at in range(weight.numel()):
            without = weight.clone()
            without.view(-1)[at] = 0.0
            rows.append((float(loss(without)) - whole, saliency[at], abs(float(weight.view(-1)[at]))))
    table = pd.DataFrame(rows, columns=["real", "saliency", "magnitude"])
    against = table.corr(method="spearman")["real"]
    assert against["saliency"] > 0.97
    assert against["saliency"] > against["magnitude"] + 0.08


# ---------------------------------------------------------------- shared and derived weights


def test_a_shared_tensor_has_one_diagonal_of_all_its_uses() -> None:
    net, data = odd_models.tied(), odd_models.words()[0]
    samples = Samples(data.tensors[0][:9], data.tensors[1][:9], (), ())
    found = curvature.diagonal(net, samples)
    assert list(found) == ["tokens.weight", "mix.weight"]

    def logits(w: Tensor, x: Tensor) -> Tensor:
        return functional_call(net, {"tokens.weight": w, "out.weight": w}, (x,))[0]

    weight, total = net.get_parameter("tokens.weight").detach(), 0.0
    for i in range(9):
        inputs = samples.inputs(slice(i, i + 1))
        jacobian = jacrev(logits)(weight, inputs).flatten(1)
        p = logits(weight, inputs).softmax(0)
        total = total + (jacobian.T @ (p.diag() - torch.outer(p, p)) @ jacobian).diagonal()
    close(found["tokens.weight"], total.reshape(weight.shape) / 9)
    close(found["mix.weight"], brute_force(net, samples, "mix.weight"))


def test_a_weight_that_is_made_of_others_is_refused_by_its_layers_name() -> None:
    data = odd_models.vectors()[0]
    samples = Samples(*data.tensors, (), ())
    with pytest.raises(SlimscopeError, match="weight of layer 'first' is made of other parameters"):
        curvature.diagonal(odd_models.normed(), samples)
