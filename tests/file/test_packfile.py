"""The .slim file: bit-for-bit round trips of any bundle, every byte counted, damage refused."""

from __future__ import annotations

import doctest
import json
import os
import pickle
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from engine.file import packfile
from engine.file.packfile import PackError, pack, unpack, writing
from engine.file.packfile.head import FIELDS, squeezed
from engine.net import zoo
from engine.tensor.formats import AffineGrid, Codebook, Dense, Product
from engine.tensor.granularity import TENSOR, TOKEN, Granularity, per_axis, per_block, per_group
from engine.types import Arch, Basis, Bundle, Param, Recipe, SlimscopeError, Step

BLOCK = per_block(3, 4)
REPOSITORY = Path(packfile.__file__).parents[3]
SHAPES = st.one_of(
    st.lists(st.integers(1, 7), min_size=2, max_size=4),
    st.sampled_from([[1, 1], [40, 30], [3, 0], [0, 4], [1], [9], []]),
).map(tuple)


def generator(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


@st.composite
def dense(draw: st.DrawFn) -> Dense:
    shape, rng = draw(SHAPES), generator(draw(st.integers(0, 2**16)))
    values = rng.normal(size=shape).astype(np.float32)
    keep = rng.random(shape) < draw(st.sampled_from([0.0, 0.02, 0.5, 1.0]))
    zero = draw(st.sampled_from([np.float32(0.0), np.float32(-0.0)]))
    return Dense(torch.from_numpy(np.where(keep, values, zero).astype(np.float32)))


@st.composite
def grid(draw: st.DrawFn) -> AffineGrid:
    shape, rng = draw(SHAPES), generator(draw(st.integers(0, 2**16)))
    bits, symmetric = draw(st.integers(1, 16)), draw(st.booleans())
    low, high = (-max(2 ** (bits - 1) - 1, 1), max(2 ** (bits - 1) - 1, 1)) if symmetric else (0, 2**bits - 1)
    axis = draw(st.none() | st.integers(0, len(shape) - 1)) if shape else None
    group = draw(st.none() | st.integers(1, 9))
    if shape and draw(st.integers(0, 3)) == 0:
        granularity = draw(st.sampled_from([TOKEN, per_block(2, 3), per_block(1, 1), per_block(99, 2)]))
    elif group is not None:
        granularity = per_group(group, axis)
    else:
        granularity = TENSOR if axis is None else per_axis(axis)
    scales = int(np.prod(granularity.tiles(shape)))
    codes = rng.integers(low, high + 1, shape)
    constant = draw(st.booleans()) and draw(st.booleans())
    zero = rng.integers(0, 2**bits, scales) * (not symmetric)
    codes = np.where(rng.random(shape) < draw(st.sampled_from([0.0, 0.9, 1.0])), zero[:1].sum(), codes)
    return AffineGrid(
        torch.from_numpy(np.full(shape, low) if constant else np.asarray(codes)).to(torch.int32),
        torch.from_numpy(rng.random(scales).astype(np.float32)),
        torch.from_numpy(zero).to(torch.int32),
        bits,
        granularity,
    )


@st.composite
def book(draw: st.DrawFn) -> Codebook:
    shape, rng = draw(SHAPES), generator(draw(st.integers(0, 2**16)))
    k = draw(st.integers(1, 40))
    table = torch.from_numpy(rng.normal(size=k).astype(np.float32))
    return Codebook(torch.from_numpy(np.asarray(rng.integers(0, k, shape))).to(torch.int32), table)


@st.composite
def product(draw: st.DrawFn) -> Product:
    shape, rng = draw(SHAPES), generator(draw(st.integers(0, 2**16)))
    k, length = draw(st.integers(1, 40)), draw(st.integers(1, 9))
    columns = int(np.prod(shape[1:] or shape))
    count = int(np.prod(shape)) // max(columns, 1) * -(-columns // length)
    table = torch.from_numpy(rng.normal(size=(k, length)).astype(np.float32))
    numbers = torch.from_numpy(np.asarray(rng.integers(0, k, count))).to(torch.int32)
    kept = torch.from_numpy(np.asarray(rng.random(shape) < draw(st.sampled_from([0.0, 0.1, 1.0]))))
    masked = Product(numbers, table, tuple(shape)).masked(kept)
    assert isinstance(masked, Product)
    return masked


RECIPES = st.sampled_from(
    [
        Recipe(),
        Recipe((Step("prune_weights", {"sparsity": 0.9, "leave_out": ["fc1", "größe"]}),)),
        Recipe((Step("quantize", {"bits": 5}, on=False), Step("x", {"per": {"a": 0.1}, "none": None}))),
    ]
)
ARCHES = st.sampled_from(
    [
        Arch("bare"),
        Arch("lenet-5").edit("split", layer="fc1", rank=8, form="linear").edit("quantize_input", bits=8),
    ]
)
BUNDLES = st.builds(
    lambda arch, params, recipe: Bundle(
        arch, {f"layer{i}.weight": p for i, p in enumerate(params)}, None, recipe
    ),
    ARCHES,
    st.lists(dense() | grid() | book() | product(), max_size=4),
    RECIPES,
)


def assert_same(one: Bundle, other: Bundle) -> None:
    assert packfile.difference(one, other) is None
    assert one.fingerprint == other.fingerprint


def only(param: Param) -> Bundle:
    return Bundle(Arch("bare"), {"w": param})


def row_grid(weight: Tensor, bits: int) -> AffineGrid:
    rows, top = weight.reshape(weight.shape[0], -1), max(2 ** (bits - 1) - 1, 1)
    scale = rows.abs().amax(1) / top
    scale = torch.where(scale > 0, scale, torch.ones(()))
    codes = torch.round(rows / scale[:, None]).to(torch.int32).reshape(weight.shape)
    return AffineGrid(codes, scale, torch.zeros(len(scale), dtype=torch.int32), bits, per_axis(0))


def compressed(bundle: Bundle, bits: int, share: float) -> Bundle:
    """Small weights of every matrix set to zero, the rest on a grid by rows."""

    def change(values: Tensor) -> Param:
        if values.dim() < 2:
            return Dense(values)
        bar = values.abs().flatten().kthvalue(max(int(values.numel() * share), 1)).values
        return row_grid(torch.where(values.abs() > bar, values, torch.zeros(())), bits)

    return bundle.become({n: change(v) for n, v in bundle.state().items()})


def real_net() -> Bundle:
    names = zoo.trained()
    if names:
        return zoo.load("lenet-300-100" if "lenet-300-100" in names else names[0])
    return zoo.bundle_of("mlp-32", dict(zoo.seeded("mlp-32", 0).state_dict()))


# ---------------------------------------------------------------- what comes back


def test_docstring_examples_hold() -> None:
    failed, tried = doctest.testmod(writing)
    assert (failed, tried > 0) == (0, True)


@given(BUNDLES)
@settings(max_examples=600, deadline=None)
def test_any_bundle_comes_back_bit_for_bit(bundle: Bundle) -> None:
    assert_same(bundle, unpack(pack(bundle)))


@given(BUNDLES)
@settings(max_examples=100, deadline=None)
def test_every_byte_of_any_bundle_is_counted(bundle: Bundle) -> None:
    data = pack(bundle)
    back = unpack(data)
    assert back.source is None
    assert pack(back) == data
    table = packfile.sections(bundle)
    assert int(table["bytes"].sum()) == len(data)
    assert set(table["tensor"]) == {"", *bundle.params}


@given(
    st.integers(1, 16),
    st.sampled_from(
        [TENSOR, TOKEN, per_axis(0), per_axis(1), per_group(3), per_group(5, 1), per_group(7, None), BLOCK]
    ),
)
@settings(deadline=None)
def test_decoded_values_of_a_pruned_asymmetric_grid_are_equal(bits: int, granularity: Granularity) -> None:
    rng = generator(bits)
    scales = int(np.prod(granularity.tiles((8, 6))))
    zero = torch.from_numpy(rng.integers(0, 2**bits, scales)).to(torch.int32)
    codes = torch.from_numpy(rng.integers(0, 2**bits, (8, 6))).to(torch.int32)
    param = AffineGrid(codes, torch.rand(scales), zero, bits, granularity)
    assert torch.equal(unpack(pack(only(param))).params["w"].decode(), param.decode())


def test_input_is_not_touched() -> None:
    bundle = compressed(real_net(), 5, 0.9)
    before = bundle.fingerprint
    packfile.size(bundle)
    del bundle.__dict__["fingerprint"]
    assert bundle.fingerprint == before


def test_tensors_that_are_views_come_back() -> None:
    wide = torch.randn(6, 8)
    wide[:, ::3] = 0
    bundle = Bundle(Arch("bare"), {"t": Dense(wide.T), "g": Dense(wide[::2, 1:].requires_grad_())})
    assert_same(bundle, unpack(pack(bundle)))


def test_packed_file_is_rebuilt_in_a_fresh_process_with_equal_predictions(tmp_path: Path) -> None:
    bundle = compressed(real_net(), 5, 0.9)
    inputs = torch.randn(64, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    (tmp_path / "net.slim").write_bytes(pack(bundle))
    np.save(tmp_path / "in.npy", inputs.numpy())
    script = (
        "import sys, numpy, torch; from pathlib import Path;"
        "from engine.file import packfile; from engine.net import zoo;"
        "folder = Path(sys.argv[1]); net = zoo.build(packfile.unpack((folder / 'net.slim').read_bytes()));"
        "out = net(torch.from_numpy(numpy.load(folder / 'in.npy')));"
        "numpy.save(folder / 'out.npy', out.numpy())"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True, env=environment, cwd=tmp_path)
    answers = zoo.build(bundle)(inputs)
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), answers.numpy())
    assert answers.argmax(1).unique().numel() > 1


@pytest.mark.parametrize("name", ["lenet-5", "resnet-8", "lstm-32"])
def test_every_kind_of_net_is_rebuilt_with_equal_answers(name: str) -> None:
    bundle = compressed(zoo.bundle_of(name, dict(zoo.seeded(name, 1).state_dict())), 4, 0.8)
    shape = (3, 3, 32, 32) if name.startswith("resnet") else (3, 1, 28, 28)
    inputs = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    again = zoo.build(unpack(pack(bundle)))(inputs)
    assert torch.equal(again, zoo.build(bundle)(inputs))


def test_edited_architecture_is_rebuilt() -> None:
    arch = Arch("mlp-32").edit("split", layer="fc1", rank=4, form="linear")
    state = zoo.surgery.edit(zoo.seeded("mlp-32", 0), arch).state_dict()
    bundle = Bundle(arch, {n: Dense(t) for n, t in state.items()})
    inputs = torch.randn(5, 1, 28, 28)
    assert torch.equal(zoo.build(unpack(pack(bundle)))(inputs), zoo.build(bundle)(inputs))


# ---------------------------------------------------------------- how long it is


def section(bundle: Bundle, part: str) -> tuple[str, int]:
    rows = packfile.sections(bundle).query("tensor == 'w' and part == @part")
    return str(rows["coding"].item()), int(rows["bytes"].item())


def test_size_is_measured_on_the_written_file() -> None:
    bundle = compressed(real_net(), 5, 0.9)
    figure = packfile.size(bundle)
    assert figure.value == len(pack(bundle))
    assert (figure.basis, figure.unit) == (Basis.MEASURED, "B")


def test_size_refuses_a_file_that_does_not_give_the_net_back(monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = only(Dense(torch.full((2, 2), 7.25)))  # no other test has proven it
    monkeypatch.setattr(
        "engine.tensor.formats.dense.read_floats", lambda coding, data, count: -torch.ones(count)
    )
    with pytest.raises(PackError, match="does not give the model back: values of w"):
        packfile.size(bundle)


def test_noise_takes_four_bytes_a_number() -> None:
    noise = torch.randint(
        -(1 << 31), 1 << 31, (30, 10), dtype=torch.int32, generator=torch.Generator().manual_seed(0)
    )
    assert section(only(Dense(noise.view(torch.float32).nan_to_num(1.0))), "values") == ("raw", 1200)


def test_normal_weights_take_their_noise_and_the_entropy_of_their_exponents() -> None:
    weights = torch.randn(100, 1000, generator=torch.Generator().manual_seed(0))
    coding, length = section(only(Dense(weights)), "values")
    _, counts = np.unique(weights.numpy().view(np.uint32) >> 20, return_counts=True)
    share = counts / counts.sum()
    ideal = weights.numel() * (20 - float((share * np.log2(share)).sum())) / 8
    assert (coding, ideal <= length <= 1.002 * ideal) == ("floats", True)


def test_a_sparse_matrix_takes_its_survivors_and_their_places() -> None:
    weight = torch.zeros(100, 100)
    weight.view(-1)[torch.randperm(10_000, generator=torch.Generator().manual_seed(0))[:500]] = torch.randn(
        500
    )
    bundle = only(Dense(weight))
    assert 23 / 32 * 2000 < section(bundle, "values")[1] < 0.9 * 2000  # mantissas are noise
    # 10,000 * H(0.05) / 8 = 358 bytes, and a table of two counts
    assert 358 <= section(bundle, "positions")[1] <= 358 + 20


def test_zeros_in_a_bias_cost_next_to_nothing() -> None:
    coding, length = section(only(Dense(torch.zeros(500))), "values")
    assert (coding, length < 20) == ("floats", True)


def test_uniform_codes_take_their_bits() -> None:
    codes = torch.arange(32, dtype=torch.int32).repeat(100)
    codes = codes[torch.randperm(3200, generator=torch.Generator().manual_seed(0))].reshape(40, 80)
    one = torch.zeros(1, dtype=torch.int32)
    coding, length = section(only(AffineGrid(codes, torch.ones(1), one, 5)), "codes")
    assert coding == "packed"
    assert 3200 * 5 // 8 <= length <= 3200 * 5 // 8 + 6


def test_pruned_zeros_are_one_symbol_though_zero_points_differ() -> None:
    rng = generator(0)
    zero = torch.from_numpy(rng.integers(0, 256, 100)).to(torch.int32)
    codes = zero[:, None].expand(100, 200).clone()
    kept = torch.from_numpy(rng.random((100, 200)) < 0.05)
    codes[kept] = torch.from_numpy(rng.integers(0, 256, int(kept.sum()))).to(torch.int32)
    bundle = only(AffineGrid(codes, torch.ones(100), zero, 8, per_axis(0)))
    coding, length = section(bundle, "codes")
    assert coding.startswith("steps")
    assert length < 2200  # as codes with 100 different zeros they would take 6.7 bits each: 16,000 B
    assert_same(bundle, unpack(pack(bundle)))


def test_equal_zero_points_take_a_few_bytes() -> None:
    grid = AffineGrid(
        torch.zeros(300, 4, dtype=torch.int32),
        torch.ones(300),
        torch.zeros(300, dtype=torch.int32),
        8,
        per_axis(0),
    )
    assert section(only(grid), "zero points")[1] <= 5


# ---------------------------------------------------------------- what is refused


def test_another_kind_of_file_is_refused() -> None:
    for data in (b"", b"SLI", b"PK\x03\x04rest", pickle.dumps({"a": 1})):
        with pytest.raises(PackError, match="does not start with SLIM"):
            unpack(data)


def test_every_cut_is_refused() -> None:
    data = pack(only(row_grid(torch.randn(4, 6), 3)))
    for length in range(len(packfile.MAGIC), len(data)):
        with pytest.raises(PackError, match="slim file"):
            unpack(data[:length])
    with pytest.raises(PackError, match="cut off or too long"):
        unpack(data + b"\0")


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_every_changed_byte_is_refused(data: st.DataObject) -> None:
    whole = bytearray(PACKED)
    place = data.draw(st.integers(4, len(whole) - 1))
    whole[place] ^= data.draw(st.integers(1, 255))
    try:
        back = unpack(bytes(whole))
    except PackError:
        return
    # A coder may have a tail that means nothing: then nothing may be lost.
    assert packfile.difference(back, unpack(PACKED)) is None


PACKED = pack(
    Bundle(
        Arch("bare"),
        {
            "a": row_grid(torch.linspace(-1, 1, 60).reshape(6, 10) ** 3, 4),
            "b": Dense(torch.eye(9)),
            "c": Codebook(
                torch.arange(12, dtype=torch.int32).reshape(3, 4) % 3, torch.tensor([0.0, 1.0, 2.0])
            ),
        },
    )
)


@given(st.binary(max_size=200))
def test_garbage_behind_the_magic_is_refused(garbage: bytes) -> None:
    with pytest.raises(PackError):
        unpack(b"SLIM" + garbage)


def with_header(header: object, body: bytes = b"") -> bytes:
    fields = [header[name] for name in FIELDS] if isinstance(header, dict) else header
    packed = squeezed(json.dumps(fields).encode())
    return packfile.PREFIX.pack(b"SLIM", packfile.VERSION, 0, len(packed)) + packed + body


def announced(**changes: object) -> dict[str, object]:
    plain: dict[str, object] = {
        "arch": ["bare", []],
        "recipe": [],
        "names": ["w"],
        "formats": ["dense", "grid", "book", "product"],
        "coders": ["raw", "packed"],
        "tensors": [[0, [1]]],
        "streams": [[0]],
        "lengths": [4],
    }
    assert set(plain) == set(FIELDS)
    return plain | changes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tensors": [[0, [1 << 14, 1 << 14]]]}, "announces 268,435,456 numbers"),
        ({"tensors": [[0, [1 << 40]]]}, "absurdly large"),
        ({"tensors": [[0, [-1]]]}, "not a whole number"),
        ({"tensors": [[0, [True]]]}, "not a whole number"),
        ({"tensors": [[0, [1.0]]]}, "not a whole number"),
        ({"tensors": [[0, [1] * 9]]}, "more than 8 dimensions"),
        ({"tensors": [[0, [2]]]}, "take 8 bytes, not 4"),
        ({"formats": ["pickle"]}, "this file uses format 'pickle', which this version does not know"),
        ({"coders": ["steps arithmetic"]}, "uses coder 'arithmetic', which this version does not know"),
        ({"coders": [["raw"]]}, "uses coder .'raw'., which"),
        ({"tensors": [[4, [1]]]}, "4 is no place in .'dense', 'grid', 'book', 'product'."),
        ({"tensors": [[True, [1]]]}, "True is no place"),
        ({"streams": [[-1]]}, "-1 is no place in .'raw', 'packed'."),
        ({"tensors": [[2, [1], 1 << 40]]}, "absurdly large"),
        ({"tensors": [[3, [1], 1 << 40, 2, False]]}, "absurdly large"),
        ({"tensors": [[3, [1], 2, 0, False]]}, "a product codebook is described as .2, 0, False.: allowed"),
        ({"tensors": [[3, [1], "two", 2, False]]}, "a product codebook is described as"),
        ({"tensors": [[3, [1], 2, 2]]}, "a product codebook is described as"),
        ({"tensors": [[1, [1], 8, ["cube", 2]]]}, "a granularity is .'cube', 2.: allowed are"),
        ({"tensors": [[1, [1], 8, ["axis", 1]]]}, "has no axis 1"),
        ({"tensors": 3}, "damaged"),
        ({"tensors": [[]]}, "damaged"),
        ({"names": ["w", "w"]}, "twice"),
        ({"names": [3]}, "twice or not at all"),
        ({"names": []}, "damaged"),
        ({"lengths": [5]}, "cut off"),
        ({"lengths": [8, -4]}, "not a whole number"),
        ({"streams": [[0, 0]]}, "cut off or too long"),
        ({"arch": "bare"}, "damaged"),
        ({"recipe": [["x"]]}, "a step is"),
    ],
)
def test_absurd_headers_are_refused_before_memory_is_taken(changes: dict[str, object], message: str) -> None:
    with pytest.raises(PackError, match=message):
        unpack(with_header(announced(**changes), struct.pack("<f", 1.0)))


def test_a_header_that_swells_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.file.packfile.head.LARGEST_HEADER", 1000)
    with pytest.raises(PackError, match="cut off or too long"):
        unpack(with_header(announced(names=["w" * 5000])))


@pytest.mark.parametrize("header", [[], "text", None, 3])
def test_a_header_that_is_no_list_of_fields_is_refused(header: object) -> None:
    with pytest.raises(PackError, match="not a list of 8 fields"):
        unpack(with_header(header))


def test_a_version_of_the_future_is_named() -> None:
    data = bytearray(PACKED)
    data[4] = 9
    with pytest.raises(PackError, match="has version 9: this program reads 1 to 3"):
        unpack(bytes(data))


INTS, ONE = torch.zeros(2, 2, dtype=torch.int32), torch.ones(1)


@pytest.mark.parametrize(
    ("param", "message"),
    [
        (Dense(torch.zeros(2, dtype=torch.float64)), "values of 'w' are torch.float64"),
        (AffineGrid(INTS.long(), ONE, INTS[0, :1], 8), "codes of 'w' are torch.int64"),
        (AffineGrid(INTS, ONE, INTS[0, :1], 8, per_axis(0)), "need 2"),
        (AffineGrid(INTS, torch.ones(2), INTS[0, :1], 8, per_axis(0)), "need 2"),
        (AffineGrid(INTS, ONE, INTS[0, :1], 8, per_axis(2)), "no axis 2"),
        (AffineGrid(INTS, ONE, INTS[0, :1], 8, per_group(0)), "no groups of 0 along axis 0"),
        (Codebook(INTS + 3, torch.ones(3)), "outside of its table of 3"),
        (Codebook(INTS - 1, torch.ones(3)), "outside of its table of 3"),
        (Product(INTS[0] + 3, torch.ones(3, 2), (2, 2)), "outside of its table of 3"),
        (Product(INTS[0], torch.ones(3, 2), (2, 3)), "needs 4 codes of sub-vectors of 2"),
        (Product(INTS[0], torch.ones(3, 2), (2, 2), INTS + 2), "neither that a weight is zero nor"),
        (Product(INTS[0] + 1, torch.ones(3, 2), (2, 2), INTS + 1), "that is zero has a code"),
        (Product(INTS[0], torch.ones(3, 0), (2, 2)), "needs a table"),
    ],
)
def test_what_could_not_be_read_back_is_not_written(param: Param, message: str) -> None:
    with pytest.raises(PackError, match=message):
        pack(only(param))


def test_a_net_above_the_limit_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.file.packfile.writing.AT_ONCE", 10)
    with pytest.raises(PackError, match="has 11 numbers or more: allowed are 10"):
        pack(only(Dense(torch.zeros(11))))


def test_a_pack_error_is_an_error_for_people() -> None:
    assert issubclass(PackError, SlimscopeError)


def test_difference_names_what_differs() -> None:
    base = Bundle(Arch("bare"), {"w": Dense(torch.zeros(2, 2))})
    assert packfile.difference(base, Bundle(Arch("lenet-5"), base.params)) == "the architecture"
    assert (
        packfile.difference(base, Bundle(base.arch, base.params, None, Recipe((Step("x"),)))) == "the recipe"
    )
    assert packfile.difference(base, Bundle(base.arch, {"v": base.params["w"]})) == "the names of the tensors"
    assert packfile.difference(base, only(Dense(torch.zeros(4)))) == "kind or shape of w"
    assert packfile.difference(base, only(Dense(-torch.zeros(2, 2)))) == "values of w"
