"""Blocks: which layers are one, what enters them, and how far outputs are off."""

from typing import Any

import torch
from torch import nn

from engine.data import sets
from engine.net import blocks, zoo
from engine.net.random_inputs import random_inputs
from engine.types import weight_layers


def test_encoders_and_residual_blocks_are_blocks_and_other_layers_stand_alone() -> None:
    text, photo = zoo.load("transformer-topics"), zoo.load("resnet-8")
    found = blocks.blocks(zoo.skeleton(text.arch), weight_layers(text).values())
    assert list(found) == ["tokens", "places", *(f"layers.{i}" for i in range(4)), "fc"]
    assert len(found["layers.2"]) == 6
    layers = blocks.blocks(zoo.skeleton(photo.arch), weight_layers(photo).values())
    assert list(layers) == ["conv1", "layer1.0", "layer2.0", "layer3.0", "fc"]


def test_blocks_that_are_given_word_numbers_or_are_called_twice_are_no_blocks_to_learn() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.once, self.twice = nn.Embedding(5, 4), nn.Linear(4, 4), nn.Linear(4, 4)
            self.never = nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> Any:
            return self.twice(self.twice(self.once(self.table(x))))

    names = ["table", "once", "twice", "never"]
    assert blocks.called_once(Twice(), names, torch.zeros(2, 3, dtype=torch.int64)) == ["once"]


def test_what_enters_a_block_is_what_it_reads_in_the_whole_model() -> None:
    net, texts = zoo.build(zoo.load("transformer-topics")), sets.load("debian-topics").test.inputs()[:150]
    seen: list[Any] = []
    block = net.get_submodule("layers.2")
    hook = block.register_forward_hook(lambda module, args, output: seen.append((*args, output)))
    with torch.no_grad():
        net(texts)
    hook.remove()
    entered = blocks.entering(net, "layers.2", texts)
    x, padding, output = seen[0]
    assert len(entered.args) == 2
    assert torch.allclose(entered.args[0], x, atol=1e-5)
    assert torch.equal(entered.args[1], padding)
    assert torch.allclose(entered.outputs(block), output, atol=1e-5)


def test_what_enters_a_layer_is_not_rounded_yet() -> None:
    bundle, texts = zoo.load("transformer-topics"), sets.load("debian-topics").test.inputs()[:20]
    arch = bundle.arch.edit("quantize_input", layer="fc", bits=2, symmetric=True, dynamic=True, tokens=True)
    rounded = zoo.build(bundle.become(bundle.params, arch))
    whole = blocks.entering(zoo.build(bundle), "fc", texts)
    assert torch.equal(blocks.entering(rounded, "fc", texts).args[0], whole.args[0])


def test_random_inputs_are_of_the_vocabulary_and_the_same_for_the_same_seed() -> None:
    bundle, train = zoo.load("transformer-topics"), sets.load("debian-topics").train
    drawn = random_inputs(bundle, train, 400, 1)
    assert drawn.shape == (400, 24)
    assert (int(drawn.min()), int(drawn.max())) == (2, 2047)  # neither padding nor the unknown piece
    assert torch.equal(drawn, random_inputs(bundle, train, 400, 1))
    assert not torch.equal(drawn, random_inputs(bundle, train, 400, 2))
    assert random_inputs(zoo.load("mlp-32"), sets.load("mnist").train, 3, 0).shape == (3, 1, 28, 28)
