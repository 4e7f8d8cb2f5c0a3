"""Prune heads: importance against a mask of its own, what goes by hand, torch's attention, and a claim."""

from __future__ import annotations

import own_models
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import engine.techniques  # noqa: F401  (fills the registry)
from engine.data import sets, user_parts
from engine.data.sets import Data
from engine.figures import count, measure
from engine.net import channels, heads, sources, zoo
from engine.recipe.run import apply, run
from engine.types import Bundle, Recipe, SlimscopeError, Step

NAME = "transformer-topics"


@pytest.fixture(scope="module")
def topics() -> Data:
    return sets.load("debian-topics")


@pytest.fixture(scope="module")
def fresh() -> Bundle:
    return zoo.bundle_of(NAME, zoo.seeded(NAME, 3).state_dict())


def pruned(bundle: Bundle, data: Data, **settings: object) -> Bundle:
    return apply(bundle, Step("prune_heads", {"samples": 50, **settings}), data)[0]


def test_what_goes_with_a_head_by_hand(fresh: Bundle, topics: Data) -> None:
    """24 rows of 96 and their biases from three layers, and 24 columns of 96 from the fourth; 8 of 16 go."""
    after, report = apply(fresh, Step("prune_heads", {"removed": 0.5, "samples": 50}), topics)
    each = 3 * (24 * 96 + 24) + 24 * 96
    assert count.parameters(fresh).value - count.parameters(after).value == 8 * each
    # for 24 tokens, and both products of attention over 24 x 24 pairs
    macs = 24 * (3 * 24 * 96 + 24 * 96) + 2 * 24 * 24 * 24
    assert count.macs(fresh).value - count.macs(after).value == 8 * macs
    rows = report.tables["heads"]
    assert (len(rows), int((~rows["kept"]).sum())) == (16, 8)
    assert sorted(rows["rank"]) == list(range(1, 17))
    assert bool(rows.groupby("layer")["kept"].any().all())


def test_importance_is_the_gradient_of_a_mask(fresh: Bundle, topics: Data) -> None:
    """A number for each head that multiplies what enters `out`, sample by sample."""
    few = topics.train.stratified(6, 1)
    found = heads.importance(fresh, topics.train, 6, 1)
    net = zoo.fork(fresh).eval()
    label = "layers.2.attention"
    mask = torch.ones(4, requires_grad=True)

    def masked(layer: nn.Module, args: tuple[Tensor]) -> Tensor:
        return args[0] * mask.repeat_interleave(24)

    net.get_submodule(f"{label}.out").register_forward_pre_hook(masked)
    expected = torch.zeros(4)
    for i in range(6):
        loss = F.cross_entropy(net(few.inputs(slice(i, i + 1))), few.labels[i : i + 1])
        expected += torch.autograd.grad(loss, mask)[0].abs() / 6
    assert torch.allclose(found[label].float(), expected, atol=1e-6)


def test_cut_out_and_set_to_zero_answer_alike(fresh: Bundle, topics: Data) -> None:
    groups = {label: block.group for label, block in heads.blocks(fresh).items()}
    kept = {"layers.1.attention": [0, 2, 3], "layers.3.attention": [1]}
    inputs = topics.test.inputs(slice(0, 20))
    small, zeros = channels.keep(fresh, kept, groups), channels.masked(fresh, kept, groups)
    assert small.params["layers.3.attention.query.weight"].shape == (24, 96)
    assert torch.allclose(zoo.build(small)(inputs), zoo.build(zeros)(inputs), atol=1e-6)


def test_split_and_rounded_layers_lose_their_heads_too(fresh: Bundle, topics: Data) -> None:
    steps = (
        Step("low_rank", {"energy": 0.5}),
        Step("prune_heads", {"removed": 0.5, "samples": 50}),
        Step("quantize", {"bits": 4, "granularity": "channel"}),
        Step("prune_heads", {"removed": 0.5, "samples": 50}),
    )
    after, reports = run(fresh, Recipe(steps), topics)
    assert [block.group.channels for block in heads.blocks(after).values()] != [4] * 4
    assert sum(block.group.channels for block in heads.blocks(after).values()) <= 8
    assert reports[-1].figures[0].value > 0
    assert zoo.build(after)(topics.test.inputs(slice(0, 2))).shape == (2, 15)


def test_in_torchs_attention_a_head_becomes_zeros() -> None:
    model, parts = own_models.model("transformer"), own_models.parts("transformer")
    bundle, data = (
        sources.adopt(model, user_parts.task_of(parts, "data"))[0],
        user_parts.task_of(parts, "data"),
    )
    label = "layers.layers.1.self_attn"
    after = heads.without(bundle, {label: [1]})
    weight = after.params[f"{label}.in_proj_weight"].decode()  # 16 wide, two heads of 8
    assert [bool((weight[i : i + 8] == 0).all()) for i in range(0, 48, 8)] == [True, False] * 3
    assert bool((after.params[f"{label}.out_proj.weight"].decode()[:, :8] == 0).all())
    assert after.arch == bundle.arch
    scaled = zoo.fork(bundle).eval()
    scaled.get_submodule(f"{label}.out_proj").weight.data[:, :8] = 0.0
    inputs = data.test.inputs(slice(0, 9))
    assert torch.allclose(zoo.build(after)(inputs), scaled(inputs), atol=1e-6)
    _, report = apply(bundle, Step("prune_heads", {"removed": 0.5, "samples": 50}), data)
    assert any("zeros stand in their places" in note for note in report.notes)


def test_the_loss_knows_better_than_chance_and_far_better_than_its_own_opposite(topics: Data) -> None:
    """Half of the heads gone, nothing trained: validation accuracy of the zoo's transformer."""
    bundle = zoo.load(NAME)
    right = measure.accuracy(bundle, topics.validation).value
    known = heads.importance(bundle, topics.train, 200, 0)
    groups = {label: block.group for label, block in heads.blocks(bundle).items()}
    most = channels.smallest({label: -each for label, each in known.items()}, 0.5, "global", {})
    opposite = heads.without(bundle, channels.kept_of(groups, most))
    by_loss = pruned(bundle, topics, removed=0.5, samples=200)
    by_chance = [pruned(bundle, topics, removed=0.5, score="random", seed=seed) for seed in range(3)]
    lost, worst, *chance = (
        right - measure.accuracy(each, topics.validation).value for each in (by_loss, opposite, *by_chance)
    )
    assert lost < sum(chance) / 3 < worst


def test_models_without_attention_are_refused_in_a_sentence(topics: Data) -> None:
    bundle = zoo.bundle_of("mlp-32", zoo.seeded("mlp-32", 0).state_dict())
    with pytest.raises(SlimscopeError, match="MLP-32 has no attention: there are no heads to remove"):
        pruned(bundle, topics)
