"""Stages of convolutional nets, what is read of them, and narrower copies with first weights of their own."""

import pytest
import torch
from torch import nn

from engine.net import channels, stages, zoo
from engine.net.narrower import bundle_of, fresh, narrower
from engine.types import Arch, SlimscopeError


def test_a_stage_ends_where_the_last_maps_of_a_size_are_made() -> None:
    found = stages.stages(Arch("vgg-small"))
    assert [(size, tuple(stage)) for size, stage in found.items()] == [
        ((32, 32), ("bn2", 32)),
        ((16, 16), ("bn4", 64)),
        ((8, 8), ("bn6", 128)),
        ((4, 4), ("bn8", 256)),
    ]
    rounded = Arch("resnet-8").edit("quantize_input", layer="fc", bits=4, symmetric=False, dynamic=True)
    rounded = rounded.edit("quantize_input", layer="layer2.0.conv1", bits=4, symmetric=False, dynamic=True)
    assert stages.stages(rounded) == stages.stages(Arch("resnet-8"))


def test_nets_are_matched_by_the_sizes_of_their_maps_or_refused_in_a_sentence() -> None:
    both = stages.matching(Arch("resnet-20"), Arch("vgg-small"))
    assert [(theirs.name, own.name) for theirs, own in both.values()] == [
        ("layer1", "bn2"),
        ("layer2", "bn4"),
        ("layer3", "bn6"),
    ]
    with pytest.raises(SlimscopeError, match=r"LeNet-300-100 has no feature maps"):
        stages.matching(Arch("lenet-300-100"), Arch("mlp-32"))
    with pytest.raises(SlimscopeError, match=r"LSTM-32 has no feature maps"):
        stages.matching(Arch("lenet-5"), Arch("lstm-32"))
    maps = {"lenet-5": {(7, 7): stages.Stage("a", 1)}, "lenet-5-small": {(5, 6): stages.Stage("b", 1)}}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages, "stages", lambda arch: maps[arch.name])
        with pytest.raises(SlimscopeError, match="LeNet-5 has feature maps of 7 x 7, LeNet-5 small of 5 x 6"):
            stages.matching(Arch("lenet-5"), Arch("lenet-5-small"))


def test_what_is_read_is_what_the_module_gives_and_the_net_answers_as_before() -> None:
    bundle, images = zoo.load("lenet-5"), torch.randn(3, 1, 28, 28)
    net = zoo.fork(bundle).eval()
    maps, answers = stages.reader(net, "conv1")(images)
    assert torch.equal(answers, zoo.build(bundle)(images))
    assert torch.equal(maps, net.conv1(images))
    assert not maps.requires_grad


@pytest.mark.parametrize("name", ["lenet-5", "resnet-8", "mlp-500-300"])
def test_a_narrower_copy_has_fewer_channels_and_answers(name: str) -> None:
    bundle = zoo.load(name)
    arch = narrower(bundle, 0.5)
    net = fresh(arch, 3)
    small = bundle_of(arch, net)
    inputs = torch.randn(2, *zoo.INPUTS[zoo.entry(name).data].shape)
    assert torch.equal(zoo.build(small)(inputs), net.eval()(inputs))
    groups, left = channels.groups(bundle), channels.groups(small)
    assert {n: g.channels for n, g in left.items()} == {n: g.channels // 2 for n, g in groups.items()}
    first = next(n for n, p in small.params.items() if n.endswith("weight"))
    other, again = (bundle_of(arch, fresh(arch, seed)) for seed in (4, 3))
    assert again.fingerprint == small.fingerprint != other.fingerprint
    assert not torch.equal(other.params[first].decode(), small.params[first].decode())


def test_first_weights_are_torchs_own_and_leave_its_generator_alone() -> None:
    arch = narrower(zoo.load("lenet-5"), 0.5)
    before = torch.get_rng_state()
    weight = fresh(arch, 0).conv2.weight.detach()  # type: ignore[union-attr]
    assert torch.equal(torch.get_rng_state(), before)
    bound = 1 / (10 * 25) ** 0.5  # kaiming_uniform_(a=sqrt(5)) over 10 channels of 5 x 5
    assert 0.95 * bound < float(weight.abs().max()) <= bound


def test_a_whole_width_is_the_same_architecture_and_recurrent_nets_have_no_copy() -> None:
    assert narrower(zoo.load("resnet-8"), 1.0) == Arch("resnet-8")
    with pytest.raises(SlimscopeError, match="recurrent"):
        narrower(zoo.load("lstm-32"), 0.5)


def test_numbers_that_no_module_draws_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    arch = narrower(zoo.load("mlp-32"), 0.5)
    monkeypatch.setattr(nn.Linear, "reset_parameters", lambda self: None)
    with pytest.raises(SlimscopeError, match=r"no first values are known for 'fc1.weight' of"):
        fresh(arch, 0)
