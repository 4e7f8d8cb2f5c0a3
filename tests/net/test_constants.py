"""Channels that say nothing: which there are, and that the net answers alike without them."""

from __future__ import annotations

import pytest
import torch

from engine.data import sets
from engine.figures import measure
from engine.net import constants, zoo
from engine.net.constants import Dead
from engine.tensor.formats import Dense
from engine.types import Bundle

DIGITS = sets.load("mnist").validation.stratified(100)


def emptied(name: str, **zeros: tuple[int, list[int]]) -> Bundle:
    """A seeded net with biases of both signs, and zeros in places along an axis of some layers' weights."""
    state = {key: value.clone() for key, value in zoo.seeded(name, 0).state_dict().items()}
    rng = torch.Generator().manual_seed(1)
    for key, value in state.items():
        if key.endswith(".bias"):
            state[key] = torch.randn(value.shape, generator=rng)
    for layer, (axis, places) in zeros.items():
        state[f"{layer}.weight"].index_fill_(axis, torch.tensor(places), 0.0)
    return zoo.bundle_of(name, state)


def assert_answers_alike(bundle: Bundle, smaller: Bundle) -> None:
    before, after = (measure.logits(zoo.build(each), DIGITS) for each in (bundle, smaller))
    torch.testing.assert_close(after, before, rtol=0, atol=1e-5 * float(before.abs().max()))


def test_a_constant_goes_into_the_next_bias_by_hand() -> None:
    bundle = emptied("mlp-32", fc1=(0, [0, 3]))
    dead = constants.dead_channels(bundle, DIGITS)
    assert dead == {"fc1": Dead(constant=frozenset({0, 3}))}
    after = constants.without(bundle, dead, DIGITS)
    first, second = (bundle.params[f"fc{i}.bias"].decode() for i in (1, 2))
    weight = bundle.params["fc2.weight"].decode()
    wanted = second + weight[:, 0] * first[0].relu() + weight[:, 3] * first[3].relu()
    torch.testing.assert_close(after.params["fc2.bias"].decode(), wanted)
    assert after.params["fc1.weight"].shape[0] == bundle.params["fc1.weight"].shape[0] - 2
    assert_answers_alike(bundle, after)


def test_what_nobody_reads_goes_and_what_is_both_counts_once() -> None:
    bundle = emptied("lenet-300-100", fc1=(0, [5]), fc2=(1, [5, 7]))
    dead = constants.dead_channels(bundle, DIGITS)
    assert dead == {"fc1": Dead(unread=frozenset({5, 7}))}
    assert_answers_alike(bundle, constants.without(bundle, dead, DIGITS))


@pytest.mark.parametrize("channel", [1, 2])
def test_a_filter_whose_constant_is_laid_flat_goes(channel: int) -> None:
    bundle = emptied("lenet-5", conv2=(0, [channel]))
    dead = constants.dead_channels(bundle, DIGITS)
    assert dead == {"conv2": Dead(constant=frozenset({channel}))}
    assert_answers_alike(bundle, constants.without(bundle, dead, DIGITS))


def test_a_padded_layer_keeps_a_constant_that_is_not_zero() -> None:
    state = emptied("vgg-small", conv1=(0, [0, 1])).decoded()
    state["bn1.bias"][0], state["bn1.bias"][1] = 1.0, -1.0
    state["bn1.running_mean"][:2], state["conv1.bias"] = 0.0, state.get("conv1.bias", torch.zeros(0))
    state = {key: value for key, value in state.items() if value.numel()}
    bundle = zoo.bundle_of("vgg-small", state)
    photos = sets.load("cifar10").validation.stratified(10)
    assert constants.dead_channels(bundle, photos) == {"conv1": Dead(constant=frozenset({1}))}


def test_one_unit_stays_and_a_recurrent_net_has_none() -> None:
    bundle = emptied("mlp-32", fc1=(0, list(range(32))))
    after = constants.without(bundle, constants.dead_channels(bundle, DIGITS), DIGITS)
    assert after.params["fc1.weight"].shape[0] == 1
    assert_answers_alike(bundle, after)
    assert constants.dead_channels(zoo.initial("lstm-32"), DIGITS) == {}
    assert isinstance(after.params["fc2.bias"], Dense)
