"""A net that is run again only behind the layers that changed: the answers of a whole run, for less work."""

from __future__ import annotations

import pytest
import torch

import engine.techniques  # noqa: F401
from engine.data import sets
from engine.net import incremental, zoo
from engine.recipe.run import run
from engine.tensor.formats import Dense
from engine.types import Recipe, SlimscopeError, Step, weight_layers

NETS = [name for name in zoo.trained() if zoo.entry(name).data != "language"]  # see test_language_model


def sample(model, count=300):
    return sets.load(zoo.entry(model).data).test.stratified(count)


def change(bundle, *layers):
    """The bundle with these layers, and no others, on a coarse grid."""
    others = [label for label in weight_layers(bundle) if label not in layers]
    return run(bundle, Recipe((Step("quantize", {"bits": 4, "leave_out": others}),)), None)[0]


@pytest.fixture
def layers_run(monkeypatch):
    """The shapes of the layers that worked, in order, one batch after another."""
    called = []
    for kind in (torch.nn.Linear, torch.nn.Conv2d):

        def heard(self, x, forward=kind.forward):
            called.append(tuple(self.weight.shape))
            return forward(self, x)

        monkeypatch.setattr(kind, "forward", heard)
    return called


def shapes(bundle, *layers):
    return [tuple(bundle.params[f"{layer}.weight"].shape) for layer in layers]


@pytest.mark.parametrize("model", NETS)
def test_a_whole_run_answers_as_the_net_itself(model):
    bundle, samples = zoo.load(model), sample(model)
    with torch.inference_mode():
        expected = zoo.build(bundle)(samples.inputs())
    found, _ = incremental.logits(bundle, samples)
    assert torch.allclose(found, expected, atol=1e-4)
    assert torch.equal(found.argmax(1), expected.argmax(1))


@pytest.mark.parametrize("model", NETS)
def test_a_run_from_a_trace_equals_a_whole_run_to_the_last_bit(model):
    bundle, samples = zoo.load(model), sample(model)
    trace = incremental.logits(bundle, samples)[1]
    for label in list(weight_layers(bundle))[::4]:
        changed = change(bundle, label)
        found, trace = incremental.logits(changed, samples, trace)  # each from the one before
        assert torch.equal(found, incremental.logits(changed, samples)[0])


def test_layers_before_the_first_change_are_not_run(layers_run):
    bundle, samples = zoo.load("lenet-5"), sample("lenet-5", 250)
    trace = incremental.logits(bundle, samples)[1]
    for layers, expected in (
        (("conv1",), ["conv1", "conv2", "fc1", "fc2"]),
        (("fc1",), ["fc1", "fc2"]),
        (("fc2",), ["fc2"]),
        (("conv2", "fc2"), ["conv2", "fc1", "fc2"]),
        ((), []),  # nothing changed
    ):
        layers_run.clear()
        incremental.logits(change(bundle, *layers) if layers else bundle, samples, trace)
        assert layers_run == shapes(bundle, *expected)


def test_a_shortcut_brings_what_was_kept_past_the_layers_that_are_run(layers_run):
    bundle, samples = zoo.load("resnet-8"), sample("resnet-8", 60)
    trace = incremental.logits(bundle, samples)[1]
    for last in (trace, incremental.logits(bundle, samples, trace)[1]):  # the second was not run at all
        layers_run.clear()
        incremental.logits(change(bundle, "layer3.0.conv2"), samples, last)
        assert layers_run == shapes(bundle, "layer3.0.conv2", "fc")


@pytest.mark.parametrize(
    "steps", [["low_rank", {"rank": 8, "by": "rank"}], ["quantize", {"activations": "static"}]]
)
def test_edited_nets_run_too_and_other_architectures_are_no_trace_of_them(steps, layers_run):
    bundle, samples = zoo.load("lenet-300-100"), sample("lenet-300-100")
    source = sets.load("mnist")
    edited = run(bundle, Recipe((Step(*steps),)), source)[0]
    trace = incremental.logits(bundle, samples)[1]
    layers_run.clear()
    found, own = incremental.logits(edited, samples, trace)
    whole = list(layers_run)
    with torch.inference_mode():
        assert torch.allclose(found, zoo.build(edited)(samples.inputs()), atol=1e-3)
    layers_run.clear()
    assert torch.equal(incremental.logits(edited, samples, own)[0], found)
    assert whole
    assert layers_run == []


def test_a_trace_of_other_samples_is_not_used(layers_run):
    bundle = zoo.load("lenet-5-small")
    trace = incremental.logits(bundle, sample("lenet-5-small", 100))[1]
    layers_run.clear()
    incremental.logits(bundle, sample("lenet-5-small", 200), trace)
    assert layers_run == shapes(bundle, "conv1", "conv2", "fc1", "fc2")


def test_what_is_kept_has_a_bound_and_the_last_layers_come_first(monkeypatch, layers_run):
    monkeypatch.setattr(incremental, "MOST_BYTES", 300 * 4 * (10 + 500 + 50 * 8 * 8 + 1))  # not conv1's, too
    bundle, samples = zoo.load("lenet-5"), sample("lenet-5", 300)
    trace = incremental.logits(bundle, samples)[1]
    assert [sorted(batch) for batch in trace.given] == [["", "conv2", "fc1", "fc2"]] * 2
    layers_run.clear()
    changed = change(bundle, "fc2")
    found = incremental.logits(changed, samples, trace)[0]
    assert layers_run == shapes(bundle, "conv1", "fc2") * 2
    assert torch.equal(found, incremental.logits(changed, samples)[0])


def test_it_says_how_far_it_is_and_can_be_stopped_between_batches():
    bundle, samples, said = zoo.load("mlp-32"), sample("mlp-32", 1000), []

    def tell(share):
        said.append(share)
        if share >= 0.5:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        incremental.logits(bundle, samples, tell=tell)
    assert said == [0, 0.25, 0.5]


def test_what_blocks_give_is_kept_before_what_is_in_them(monkeypatch):
    bundle, samples = zoo.load("resnet-8"), sample("resnet-8", 60)
    blocks = ["conv1", "bn1", "layer1", "layer1.0", "layer2", "layer2.0", "layer3", "layer3.0", "fc", ""]
    numbers = (16 + 16 + 16) * 32 * 32 + 32 * 16 * 16 + 64 * 8 * 8 + 10 + 1
    monkeypatch.setattr(
        incremental, "MOST_BYTES", 60 * 4 * numbers
    )  # not even one layer inside of a block, too
    assert sorted(incremental.logits(bundle, samples)[1].given[0]) == sorted(blocks)


def test_what_does_not_fit_leaves_its_room_to_others(monkeypatch):
    monkeypatch.setattr(incremental, "MOST_BYTES", 60 * 4 * (10 + 500 + 1))  # neither convolution
    bundle, samples = zoo.load("lenet-5"), sample("lenet-5", 60)
    assert sorted(incremental.logits(bundle, samples)[1].given[0]) == ["", "fc1", "fc2"]
    assert incremental.logits(bundle, samples, keep=False)[1].given == [{}]


def test_outputs_that_are_no_numbers_are_refused_with_their_count():
    outputs = torch.zeros(2000, 3)
    outputs[:512, 1] = torch.nan
    with pytest.raises(SlimscopeError, match="not numbers for 512 of 2,000 samples: no accuracy is measured"):
        incremental.checked(outputs)
    endless = torch.tensor([[torch.inf, 0.0], [-torch.inf, 0.0]])
    assert incremental.checked(endless).argmax(1).tolist() == [0, 1]


@pytest.mark.parametrize("keep", [True, False])
def test_a_net_with_such_outputs_gives_no_answers(keep):
    bundle, samples = zoo.load("mlp-32"), sample("mlp-32", 30)
    bias = bundle.params["fc2.bias"].decode().clone()
    bias[3] = torch.nan
    broken = bundle.become({**bundle.params, "fc2.bias": Dense(bias)})
    with pytest.raises(SlimscopeError, match="30 of 30 samples"):
        incremental.logits(broken, samples, keep=keep)
