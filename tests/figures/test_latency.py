"""Forms of a net: they answer alike, none is missing without a reason, and reasons follow from the times."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from streamlit.testing.v1 import AppTest
from torch import nn

import engine.techniques  # noqa: F401  (fills the registry)
from engine.data import sets
from engine.figures import count, latency
from engine.figures.latency import sparse, stopwatch, variants, verdicts
from engine.figures.latency.empty import without_zero_channels
from engine.figures.latency.stopwatch import Comparison, Pace
from engine.net import channels, zoo
from engine.recipe import technique
from engine.recipe.run import run
from engine.tensor.formats import AffineGrid, Dense
from engine.types import Arch, Basis, Bundle, Figure, Recipe, SlimscopeError, weight_layers
from pages.parts import cached

ROOT = Path(__file__).resolve().parent.parent.parent
SMALL = ("mlp-32", "lenet-5-small", "resnet-8", "lstm-32")
FORMS = (latency.ORIGINAL, "This model, zeros in place", latency.CSR, latency.CUT)


def untrained(name: str) -> Bundle:
    return zoo.bundle_of(name, zoo.seeded(name, 1).state_dict())


def pruned(bundle: Bundle, share: float) -> Bundle:
    """Each weight matrix without its smallest numbers."""
    params = dict(bundle.params)
    for name in weight_layers(bundle).values():
        weight = params[name].decode()
        params[name] = Dense(weight * (weight.abs() > weight.abs().quantile(share)))
    return bundle.become(params)


def split(bundle: Bundle, layer: str, rank: int) -> Bundle:
    """A linear layer as two thin ones."""
    weight = bundle.params[f"{layer}.weight"].decode()
    params = {n: p for n, p in bundle.params.items() if not n.startswith(f"{layer}.")}
    thin = {
        f"{layer}.0.weight": Dense(weight[:rank].clone()),
        f"{layer}.1.weight": Dense(torch.ones(len(weight), rank)),
        f"{layer}.1.bias": bundle.params[f"{layer}.bias"],
    }
    return bundle.become(params | thin, bundle.arch.edit("split", layer=layer, rank=rank, form="linear"))


def images(bundle: Bundle, n: int) -> torch.Tensor:
    return sets.load(zoo.entry(bundle.arch.name).data).test.inputs(slice(0, n))


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopwatch, "WARM_UP", 1)


# ---------------------------------------------------------------- every form is there, or says why not


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("name", SMALL)
def test_every_form_is_timed_or_refused_with_a_sentence(name: str, batch: int) -> None:
    threads = torch.get_num_threads()
    before = zoo.load(name)
    rows = latency.latency(before, pruned(before, 0.8), batch)
    assert torch.get_num_threads() == threads
    both = [(name, runtime) for runtime in (latency.TORCH, latency.ONNX) for name in FORMS[:2]]
    assert {(row.form, row.runtime) for row in rows} == {*both, *((name, latency.TORCH) for name in FORMS)}
    for row in rows:
        assert row.why.endswith(".")
        assert (row.time is None) == row.why.startswith("Not timed: ")
        if row.time is None:
            assert row.form in (latency.CSR, latency.CUT)
            continue
        assert (row.speed_up is None) == (row.form == latency.ORIGINAL)
        for figure in (f for f in (row.time, row.speed_up) if f):
            assert figure.basis is Basis.MEASURED
            assert figure.spread is not None
            assert 0 < figure.spread[0] <= figure.value <= figure.spread[1]
            assert f"30 runs in turns, 1 before, batch {batch}, 1 thread" in figure.how


def test_what_is_refused_and_why() -> None:
    reasons = {
        name: {
            row.form: row.why for row in latency.latency(zoo.load(name), zoo.load(name)) if row.time is None
        }
        for name in ("mlp-32", "resnet-8", "lstm-32")
    }
    assert list(reasons["mlp-32"]) == [latency.CUT]
    assert "no filter or unit is zero throughout" in reasons["mlp-32"][latency.CUT]
    assert "convolutions and LSTMs have none" in reasons["resnet-8"][latency.CSR]
    assert "'lstm' is recurrent" in reasons["lstm-32"][latency.CUT]


def test_an_lstm_with_a_projection_is_timed_where_it_runs() -> None:
    before = zoo.load("lstm-32")
    after, _ = run(before, Recipe((technique.step("low_rank_rnn"),)), None)
    rows = {row.runtime: row for row in latency.latency(before, after) if "smaller" in row.form}
    assert rows[latency.TORCH].time is not None
    assert rows[latency.ONNX].why.startswith("Not timed: lstm-32 can't be written as ONNX, whose LSTM has no")
    assert verdicts.why(before, after, SLOWER).endswith("in one kernel of oneDNN.")


def test_latency_refuses_what_says_nothing() -> None:
    one = untrained("mlp-32")
    with pytest.raises(SlimscopeError, match="repeats is 5"):
        latency.latency(one, one, repeats=5)
    with pytest.raises(SlimscopeError, match="batch 0"):
        latency.latency(one, one, batch=0)
    with pytest.raises(SlimscopeError, match="no comparison"):
        latency.latency(one, untrained("resnet-8"))
    bare = Bundle(Arch("bare"), {"w": Dense(torch.ones(2, 2))})
    with pytest.raises(SlimscopeError, match="no known architecture"):
        latency.latency(bare, bare)


def test_the_net_is_named_by_what_it_is() -> None:
    net = zoo.load("mlp-32")
    narrow = channels.keep(net, {"fc1": range(16)})
    assert latency.name_of(net, pruned(net, 0.5)) == "This model, zeros in place"
    assert latency.name_of(net, narrow) == "This model, physically smaller"
    assert latency.name_of(zoo.load("lenet-300-100"), net) == "This model, physically smaller"
    # above its break-even rank (784 x 32 / 816 = 30.7) a split layer is larger
    assert latency.name_of(net, split(net, "fc1", 30)) == "This model, physically smaller"
    assert latency.name_of(net, split(net, "fc1", 32)) == "This model"


# ---------------------------------------------------------------- they answer alike


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("name", [*SMALL, "vgg-small"])
def test_onnx_runtime_answers_as_torch_does(name: str, batch: int) -> None:
    bundle = pruned(untrained(name), 0.7)
    inputs = images(bundle, batch)
    form = variants.through_onnx("any", bundle, inputs)
    torch.testing.assert_close(form.answer(), zoo.build(bundle)(inputs), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("dynamic", [False, True])
def test_rounded_inputs_go_through_every_form(dynamic: bool) -> None:
    net = zoo.load("mlp-32")
    arch = net.arch.edit("quantize_input", layer="fc1", bits=8, symmetric=False, dynamic=dynamic)
    scales = {
        f"fc1.input_quantizer.{name}": Dense(torch.tensor([v]))
        for name, v in (("scale", 0.02), ("zero", 20.0))
    }
    rounded = net.become({**net.params, **({} if dynamic else scales)}, arch)
    inputs = images(net, 3)
    expected = zoo.build(rounded)(inputs)
    assert not torch.allclose(expected, zoo.build(net)(inputs), atol=1e-4)
    for form in (variants.through_onnx("any", rounded, inputs), variants.in_csr(rounded, inputs)):
        torch.testing.assert_close(form.answer(), expected, atol=1e-4, rtol=1e-4)


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 4), st.floats(0, 1), st.booleans())
def test_a_sparse_layer_answers_as_the_dense_one(
    rows: int, columns: int, batch: int, zeros: float, bias: bool
) -> None:
    chance = torch.Generator().manual_seed(rows * columns)
    layer = nn.Linear(columns, rows, bias=bias).requires_grad_(False)
    layer.weight.mul_(torch.rand(rows, columns, generator=chance) >= zeros)
    x = torch.randn(batch, columns, generator=chance)
    torch.testing.assert_close(sparse.SparseLinear(layer)(x), layer(x), atol=1e-5, rtol=1e-5)
    text = torch.randn(batch, 3, columns, generator=chance)
    torch.testing.assert_close(sparse.SparseLinear(layer)(text), layer(text), atol=1e-5, rtol=1e-5)


def test_a_sparse_matrix_by_hand() -> None:
    found = sparse.compressed(torch.tensor([[0.0, 2.0, 0.0], [3.0, 0.0, 4.0]]))
    assert found.crow_indices().tolist() == [0, 1, 3]
    assert found.col_indices().tolist() == [1, 0, 2]
    assert found.values().tolist() == [2, 3, 4]
    assert found.col_indices().dtype == torch.int32


def test_the_sparse_form_counts_its_bytes() -> None:
    net = pruned(zoo.load("mlp-32"), 0.9)
    kept = [int(weight.count_nonzero()) for _, weight in count.weights(net)]
    # 8 B a kept weight, 4 B for each of 32 + 1 and 10 + 1 row pointers, 4 B for each of 42 biases
    expected = 8 * sum(kept) + 4 * (33 + 11) + 4 * 42
    assert variants.in_csr(net, images(net, 1)).size.value == expected


def test_a_form_that_answers_otherwise_is_not_timed() -> None:
    size = Figure("file", 1, "bytes", Basis.COUNTED, "by hand")
    form = variants.Variant("odd", latency.TORCH, lambda: torch.tensor([[1.0, 2.001]]), size)
    found = latency._checked(form, torch.tensor([[1.0, 2.0]]))
    assert isinstance(found, latency.Row)
    assert found.time is None
    assert "differ from the model's own by up to 0.001" in found.why
    assert latency._checked(form, torch.tensor([[1.0, 2.00099]])) is form


# ---------------------------------------------------------------- what is zero throughout


@pytest.mark.parametrize("name", ["mlp-32", "lenet-5-small", "resnet-8"])
def test_zero_channels_go_and_the_answers_stay(name: str) -> None:
    net = zoo.load(name)
    groups = channels.groups(net)
    kept = {group: range(3, groups[group].channels) for group in groups}
    masked = channels.masked(net, kept)
    found = without_zero_channels(masked)
    assert isinstance(found, Bundle)
    assert {name: group.channels for name, group in channels.groups(found).items()} == {
        name: group.channels - 3 for name, group in groups.items()
    }
    inputs = images(net, 5)
    torch.testing.assert_close(zoo.build(found)(inputs), zoo.build(masked)(inputs), atol=1e-4, rtol=1e-4)


def test_a_unit_that_nobody_reads_goes_and_takes_with_it_what_only_it_reads() -> None:
    net = zoo.load("lenet-300-100")
    first, second, third = (net.params[f"fc{i}.weight"].decode().clone() for i in (1, 2, 3))
    third[:, 7] = 0  # nobody reads unit 7 of fc2
    second[:, 5] = 0
    second[7, 5] = 1  # unit 5 of fc1 is read by that one alone
    params = {"fc1.weight": Dense(first), "fc2.weight": Dense(second), "fc3.weight": Dense(third)}
    masked = net.become({**net.params, **params})
    found = without_zero_channels(masked)
    assert isinstance(found, Bundle)
    assert found.params["fc1.weight"].shape == (299, 784)
    assert found.params["fc2.weight"].shape == (99, 299)
    inputs = images(net, 5)
    torch.testing.assert_close(zoo.build(found)(inputs), zoo.build(masked)(inputs), atol=1e-4, rtol=1e-4)


def test_a_unit_with_a_bias_is_not_cut_out() -> None:
    net = zoo.load("mlp-32")
    weight = net.params["fc1.weight"].decode().clone()
    weight[4] = 0
    assert isinstance(without_zero_channels(net.become({**net.params, "fc1.weight": Dense(weight)})), str)


def test_of_a_layer_of_zeros_one_unit_stays() -> None:
    net = zoo.load("mlp-32")
    params = {name: Dense(torch.zeros(net.params[name].shape)) for name in ("fc1.weight", "fc1.bias")}
    found = without_zero_channels(net.become({**net.params, **params}))
    assert isinstance(found, Bundle)
    assert found.params["fc1.weight"].shape == (1, 784)


# ---------------------------------------------------------------- the stopwatch


def test_forms_take_turns_in_another_order_each_round(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[str] = []
    calls = [lambda name=name: called.append(name) for name in "abc"]
    ticks = iter(range(0, 10_000, 7))
    monkeypatch.setattr(stopwatch.time, "perf_counter_ns", lambda: next(ticks))
    times = stopwatch.timed(calls, 40)
    assert torch.equal(times, torch.full((40, 3), 7.0, dtype=torch.float64))
    assert called[:3] == ["a", "b", "c"]  # the warm-up
    rounds = ["".join(called[i : i + 6]) for i in range(3, len(called), 6)]
    assert len(rounds) == 40
    # each is called once more just before it is timed
    assert set(rounds) == {"aabbcc", "aaccbb", "bbaacc", "bbccaa", "ccaabb", "ccbbaa"}


def test_the_ratio_is_taken_inside_each_round() -> None:
    before = torch.tensor([10.0, 20.0, 40.0], dtype=torch.float64)  # the machine slows down
    found = stopwatch.compare(before, before / 2, "by hand").ratio
    assert found.value == 2
    assert found.spread == (2, 2)


def test_quartiles_by_hand() -> None:
    found = stopwatch.median(
        "latency", torch.tensor([4.0, 1.0, 2.0, 3.0, 5.0], dtype=torch.float64), "ms", "how"
    )
    assert (found.value, found.spread) == (3, (2, 4))


def test_a_larger_net_takes_longer_to_measure() -> None:
    small, large = zoo.load("mlp-32"), zoo.load("resnet-8")
    one, more, most = (
        latency.seconds(*args) for args in ((small, small), (large, large), (large, large, 32))
    )
    assert one.value < more.value < most.value
    assert one.basis is Basis.MODELLED


# ---------------------------------------------------------------- where a sparse layer begins to gain


@pytest.mark.parametrize(
    ("measured", "value", "spread"),
    [
        ([40, 30, 20, 15, 12, 8, 6], 0.985, (0.98, 0.99)),
        ([40, 20, 12, 8, 6, 5, 4], 0.925, (0.9, 0.95)),
        ([9, 8, 12, 8, 7, 6, 5], 0.925, (0.9, 0.95)),  # faster only where it stays so
        ([9, 8, 7, 6, 5, 4, 3], 0.5, (0.0, 0.5)),
    ],
)
def test_the_crossing_by_hand(measured: list[float], value: float, spread: tuple[float, float]) -> None:
    found = sparse.crossing(10, measured)
    assert found is not None
    assert found.value == pytest.approx(value)
    assert found.spread == spread
    assert found.basis is Basis.MEASURED


def test_no_crossing() -> None:
    assert sparse.crossing(10, [40, 30, 20, 8, 12, 11, 10]) is None


@given(st.lists(st.floats(1, 100), min_size=7, max_size=7))
def test_the_crossing_lies_between_its_neighbours(measured: Sequence[float]) -> None:
    found = sparse.crossing(10, measured)
    assert (found is None) == (measured[-1] >= 10)
    if found is not None:
        assert found.spread is not None
        assert found.spread[0] <= found.value <= found.spread[1]


@pytest.mark.parametrize("batch", [1, 4])
def test_a_layer_is_tried_at_every_share(batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []

    def timed(calls: Sequence[object], repeats: int) -> torch.Tensor:
        tried.extend([len(calls), repeats])
        return torch.arange(len(calls), 0, -1).repeat(repeats, 1).double()

    monkeypatch.setattr(stopwatch, "timed", timed)
    found = sparse.break_even(torch.zeros(8, 5), batch)
    assert tried == [1 + len(sparse.SHARES), stopwatch.REPEATS]
    assert found is not None
    assert found.value == 0.5


# ---------------------------------------------------------------- why


def times(low: float, value: float, high: float) -> Figure:
    return Figure("latency", value, "ms", Basis.MEASURED, "by hand", (low, high))


def ratio(low: float, value: float, high: float) -> Figure:
    return Figure("speed-up", value, "times", Basis.MEASURED, "by hand", (low, high))


DENSE = times(9, 10, 11)
TIE = Comparison(DENSE, times(9, 10, 11), ratio(0.9, 1.0, 1.1))
FASTER = Comparison(DENSE, times(4, 5, 6), ratio(1.8, 2.0, 2.2))
SLOWER = Comparison(DENSE, times(19, 20, 21), ratio(0.45, 0.5, 0.55))
NOISE = Comparison(DENSE, times(5, 9, 30), ratio(0.4, 1.0, 1.9))


@pytest.mark.parametrize(
    ("here", "expected"),
    [
        ((FASTER.now, FASTER.ratio), Pace.FASTER),
        ((SLOWER.now, SLOWER.ratio), Pace.SLOWER),
        ((TIE.now, TIE.ratio), Pace.TIE),
        ((times(8, 8.5, 9.5), ratio(1.1, 1.2, 1.3)), Pace.TIE),  # the times' quartiles overlap
        ((times(4, 5, 6), ratio(0.99, 2, 3)), Pace.TIE),  # the ratio's quartiles hold 1
        ((times(10.5, 12, 13), ratio(0.7, 0.8, 0.9)), Pace.TIE),
        ((times(9, 9, 9), ratio(1.1, 1.1, 1.1)), Pace.TIE),  # touching is overlapping
    ],
)
def test_faster_is_only_what_lies_outside_both_quartiles(here: tuple[Figure, Figure], expected: Pace) -> None:
    assert Comparison(DENSE, *here).pace is expected


positive = st.lists(st.floats(0.1, 10), min_size=3, max_size=3).map(sorted)


@given(positive, positive, positive)
def test_faster_one_way_is_slower_the_other(a: list[float], b: list[float], r: list[float]) -> None:
    here = Comparison(times(*a), times(*b), ratio(*r)).pace
    back = Comparison(times(*b), times(*a), ratio(1 / r[2], 1 / r[1], 1 / r[0])).pace
    assert (here, back) in {(Pace.TIE, Pace.TIE), (Pace.FASTER, Pace.SLOWER), (Pace.SLOWER, Pace.FASTER)}


def test_why_of_a_masked_net() -> None:
    dense = zoo.load("mlp-32")
    masked = pruned(dense, 0.5)
    assert verdicts.why(dense, masked, TIE).startswith(
        "No difference beyond the noise: 50 % of the weights are zero"
    )
    assert "multiplied like any other number" in verdicts.why(dense, masked, TIE)
    assert verdicts.why(dense, masked, SLOWER).startswith("2.00 times the time: ")
    assert verdicts.why(dense, masked, FASTER) == (
        "2.00 times as fast, yet it does as many multiply-adds: nothing in the model explains it."
    )


def test_why_of_a_quantized_net_and_of_the_same_one() -> None:
    dense = zoo.load("mlp-32")
    weight = dense.params["fc1.weight"].decode()
    zero = torch.zeros(1, dtype=torch.int32)
    grid = AffineGrid(torch.round(weight / 0.01).to(torch.int32) + 1000, torch.tensor([0.01]), zero, 8)
    coded = dense.become({**dense.params, "fc1.weight": grid})
    rounded = dense.become(
        dense.params, dense.arch.edit("quantize_input", layer="fc1", bits=8, symmetric=True, dynamic=True)
    )
    assert verdicts.why(dense, coded, TIE) == (
        "No difference beyond the noise: quantized weights are decoded to 32-bit floats, "
        "so the same kernels run."
    )
    assert "rounding the inputs of layers is extra work" in verdicts.why(dense, rounded, SLOWER)
    assert verdicts.why(dense, dense, TIE) == (
        "No difference beyond the noise: both do the same multiply-adds."
    )


def test_why_of_a_smaller_net() -> None:
    dense = zoo.load("lenet-300-100")
    thin = split(dense, "fc1", 20)  # (784 + 300) x 20 + 31,000 of 266,200: 19.8 %, or 5.05 times less
    assert verdicts.why(dense, thin, FASTER) == (
        "2.00 times as fast with 19.8 % of the multiply-adds, where 5.05 times would be in proportion: "
        "calling layers and moving numbers takes time that does not shrink with them."
    )
    so_fast = Comparison(DENSE, times(1.9, 2, 2.1), ratio(4, 5, 6))
    assert verdicts.why(dense, thin, so_fast).endswith("multiply-adds, in proportion.")
    faster_still = Comparison(DENSE, times(0.9, 1, 1.1), ratio(9, 10, 11))
    assert verdicts.why(dense, thin, faster_still).endswith(", more than in proportion.")
    assert "it does 19.8 % of the multiply-adds, but calling layers" in verdicts.why(dense, thin, TIE)
    assert verdicts.why(thin, dense, SLOWER) == "2.00 times the time: it does 505 % of the multiply-adds."


def test_noise_is_given_no_reason() -> None:
    dense = zoo.load("mlp-32")
    said = "Too noisy to tell: half of the runs lie between 0.40 and 1.90 times as fast."
    assert verdicts.why(dense, pruned(dense, 0.5), NOISE).startswith(said)
    assert verdicts.why_csr(NOISE, "fc1", 0.9, None).startswith(said)
    assert "too noisy to tell" in verdicts.why_runtime(NOISE)


def test_why_of_the_sparse_form() -> None:
    at = Figure("CSR break-even", 0.925, "share", Basis.MEASURED, "by hand", (0.9, 0.95))
    rule = "a layer of fc1's size gains only above about 92.5 % zeros, and fc1 has"
    assert verdicts.why_csr(FASTER, "fc1", 0.97, at) == f"2.00 times as fast: zeros are skipped; {rule} 97 %."
    slow = verdicts.why_csr(SLOWER, "fc1", 0.5, at)
    assert slow.startswith("2.00 times the time: each kept weight brings its index")
    assert slow.endswith(f"{rule} 50 %.")
    assert "the rest of the model takes what was gained" in verdicts.why_csr(TIE, "fc1", 0.97, at)
    assert "zeros at random places" in verdicts.why_csr(FASTER, "fc1", 0.5, at)
    assert "at no share of zeros up to 99.5 %" in verdicts.why_csr(SLOWER, "fc1", 0.5, None)
    early = replace(at, value=0.5, spread=(0.0, 0.5))
    assert "already at 50 % zeros" in verdicts.why_csr(FASTER, "fc1", 0.6, early)


def test_why_of_the_other_runtime() -> None:
    assert (
        verdicts.why_runtime(TIE) == "ONNX Runtime and PyTorch take the same time for it, within the noise."
    )
    assert verdicts.why_runtime(FASTER).endswith("2.00 times as fast: another runtime, no compression.")
    assert "2.00 times the time" in verdicts.why_runtime(SLOWER)


leads = {
    Pace.FASTER: "times as fast",
    Pace.SLOWER: "times the time",
    Pace.TIE: ("No difference", "Too noisy"),
}


@given(positive, positive, positive, st.floats(0, 1), st.floats(0.5, 0.995))
def test_no_sentence_contradicts_the_times(
    a: list[float], b: list[float], r: list[float], zeros: float, at: float
) -> None:
    figures = Comparison(times(*a), times(*b), ratio(*r))
    threshold = Figure("CSR break-even", at, "share", Basis.MEASURED, "by hand", (at, at))
    dense = untrained("mlp-32")
    found = figures.pace
    for said in (
        verdicts.why(dense, dense, figures),
        verdicts.why_csr(figures, "fc1", zeros, threshold),
    ):
        if found is Pace.TIE:
            assert said.startswith(leads[Pace.TIE])
        else:
            assert said.split(" ", 1)[1].startswith(leads[found])
            assert float(said.split(" ")[0]) >= 1 or math.isclose(r[1], 1, abs_tol=0.01)


def test_the_sparse_form_of_a_smaller_net_is_judged_against_that_net() -> None:
    net = zoo.load("lenet-300-100")
    rows = {(row.form, row.runtime): row for row in latency.latency(net, zoo.load("mlp-32"))}
    assert rows[latency.CSR, latency.TORCH].why.startswith("Against this model with dense layers: ")


# ---------------------------------------------------------------- the page


@pytest.mark.usefixtures("framed")
class TestPage:
    def visit(self, model: str, recipe: str, batch: int = 1) -> AppTest:
        at = AppTest.from_file(str(ROOT / "app.py"), default_timeout=120)
        at.query_params["m"], at.query_params["r"] = model, recipe
        at.switch_page("pages/prune.py").run()
        at.session_state["footer"] = "Ship it"
        at.session_state["latency-batch"] = batch
        at.run()
        assert not at.exception
        return at

    def html(self, at: AppTest) -> str:
        return "\n".join(part.proto.body for part in at.html)

    def test_the_tab_shows_every_form_and_its_reason(self) -> None:
        at = self.visit("mlp-32", '[["prune_weights",{"sparsity":0.9}]]')
        page = self.html(at)
        for name in FORMS:
            assert f"<b>{name}</b>" in page
        assert page.count("<tr data-why>") == 6
        assert page.count('data-figure="latency"') + page.count(">Not timed: ") == 6
        assert at.button(key="measure-again")

    def test_what_takes_long_is_asked_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        asked: list[int] = []

        def measured(before: Bundle, now: Bundle, batch: int) -> tuple[latency.Row, ...]:
            asked.append(batch)
            size = Figure("file", 1234, "bytes", Basis.COUNTED, "by hand")
            return (latency.Row(latency.ORIGINAL, latency.TORCH, DENSE, None, size, "By hand."),)

        monkeypatch.setattr(latency, "latency", measured)
        at = self.visit("resnet-8", "[]", batch=32)
        assert asked == []
        assert 'data-figure="latency"' not in self.html(at)
        at.button(key="measure").click().run()
        assert asked == [32]
        assert "10.000 ms" in self.html(at)
        at.button(key="measure-again").click().run()
        assert asked == [32, 32]
        cached.latency.clear()


def test_a_pruned_net_of_a_recipe_is_measured() -> None:
    recipe = technique.complete(Recipe.from_key('[["prune_weights",{"sparsity":0.9}]]'))
    net = zoo.load("mlp-32")
    after, _ = run(net, recipe, sets.load("mnist"))
    rows = latency.latency(net, after, 2)
    assert sum(row.time is not None for row in rows) >= 5
