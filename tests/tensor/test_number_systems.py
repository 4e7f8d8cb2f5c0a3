"""Tables of number systems: as published, as torch has them, and as they are packed."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from engine.tensor import grids
from engine.tensor.formats import Levels
from engine.tensor.granularity import TENSOR, Granularity, per_axis, per_group
from engine.tensor.number_systems import SYSTEMS, NumberSystem, floor_log2
from engine.types import FormatError

TORCH = {
    "fp8_e4m3": torch.float8_e4m3fn,
    "fp8_e5m2": torch.float8_e5m2,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
}
BITS = {torch.float16: torch.int16, torch.bfloat16: torch.int16}
SCALED = [name for name, system in SYSTEMS.items() if system.scaling != "none"]


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", TORCH)
def test_all_codes_of_a_floating_point_format_are_those_of_torch(name: str) -> None:
    kind = TORCH[name]
    whole = BITS.get(kind, torch.uint8)
    ends = (-(1 << 15), 1 << 15) if whole == torch.int16 else (0, 256)
    every = torch.arange(*ends).to(whole).view(kind).to(torch.float32)
    finite = every[every.isfinite()].unique()
    assert torch.equal(SYSTEMS[name].levels, finite)


@pytest.mark.parametrize("name", TORCH)
def test_rounding_to_a_floating_point_format_is_that_of_torch_ties_included(name: str) -> None:
    system = SYSTEMS[name]
    middles = (system.levels[1:].double() + system.levels[:-1].double()) / 2
    values = torch.cat([normal(20_000) * 10.0 ** normal(20_000, seed=1), middles.float(), system.levels])
    values = values.clamp(-system.top, system.top)
    ours = system.levels[system.nearest(values).long() + system.zero]
    assert torch.equal(ours, values.to(TORCH[name]).to(torch.float32))


def test_what_is_too_large_for_a_format_goes_to_its_end() -> None:
    assert SYSTEMS["fp8_e4m3"].nearest(torch.tensor([1e9, -1e9])).tolist() == [126, -126]


def test_nf4_is_the_published_construction_from_quantiles() -> None:
    offset = 0.9677083  # of the authors' code: the mean of the last quantiles of 16 and 15 levels
    above = norm.ppf(np.linspace(offset, 0.5, 9)[:-1])
    below = -norm.ppf(np.linspace(offset, 0.5, 8)[:-1])
    every = np.sort(np.concatenate([above, [0.0], below]))
    assert SYSTEMS["nf4"].values == pytest.approx((every / every.max()).tolist(), abs=1e-6)


def test_levels_of_the_small_systems_by_hand() -> None:
    assert SYSTEMS["mxfp4"].values[8:] == (0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)  # E2M1 of OCP MX 1.0
    assert (SYSTEMS["mxint8"].values[1], SYSTEMS["mxint8"].top) == (-126 / 64, 127 / 64)
    assert SYSTEMS["power_of_two"].values[8:] == (1 / 64, 1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)
    assert SYSTEMS["logarithmic"].values[-3:] == pytest.approx((0.5, 2**-0.5, 1.0))
    assert SYSTEMS["ternary"].values == (-1.0, 0.0, 1.0)


@pytest.mark.parametrize("system", SYSTEMS.values(), ids=SYSTEMS)
def test_a_table_rises_has_zero_and_fits_its_bits(system: NumberSystem) -> None:
    assert bool((system.levels.diff() > 0).all())
    assert system.levels[system.zero] == 0
    assert 1 << (system.bits - 1) < len(system.values) <= 1 << system.bits


def test_a_block_of_mxfp4_by_hand() -> None:
    """Largest 7: exponent 2, less 2 for the largest level's, so the scale is 1; 5 is a tie and goes to 4."""
    levels = Levels.of(torch.tensor([[7.0, -5.0, 0.2, 1.3]]), "mxfp4", per_group(32))
    assert levels.scale.tolist() == [1.0]
    assert levels.decode().tolist() == [[6.0, -4.0, 0.0, 1.5]]


def test_a_block_of_mxint8_by_hand() -> None:
    levels = Levels.of(torch.tensor([[3.0, -1.0, 0.01]]), "mxint8", per_group(32))
    assert levels.scale.tolist() == [2.0]  # 3 lies between 2 and 4
    assert levels.codes.tolist() == [[96, -32, 0]]  # in steps of 2 / 64


def test_blocks_share_an_exponent_as_the_microscaling_specification_says() -> None:
    values = normal(6, 70)
    levels = Levels.of(values, "mxfp4", per_group(32))
    assert levels.scale.shape == (18,)
    for row in range(6):
        for place, start in enumerate((0, 32, 64)):
            largest = float(values[row, start : start + 32].abs().max())
            assert float(levels.scale[3 * row + place]) == 2.0 ** (math.floor(math.log2(largest)) - 2)


def test_the_top_power_of_two_is_the_nearest_to_the_largest_weight() -> None:
    for largest, top in ((1.0, 1.0), (1.49, 1.0), (1.51, 2.0), (0.7, 0.5), (0.8, 1.0)):
        assert float(Levels.of(torch.tensor([largest]), "power_of_two").scale) == top


@pytest.mark.parametrize("granularity", [TENSOR, per_axis(0), per_group(8)])
def test_int4_is_the_symmetric_grid_of_four_bits(granularity: Granularity) -> None:
    values = normal(10, 30)
    grid, levels = grids.quantize(values, 4, True, granularity), Levels.of(values, "int4", granularity)
    assert torch.equal(levels.codes, grid.codes)
    assert torch.equal(levels.decode(), grid.decode())


@settings(max_examples=60)
@given(
    st.sampled_from(list(SYSTEMS)),
    st.sampled_from([TENSOR, per_axis(0), per_group(3)]),
    st.lists(st.floats(-1e10, 1e10, width=32), min_size=1, max_size=24),
)
def test_packed_and_unpacked_it_is_equal_and_zeros_stay(
    name: str, granularity: Granularity, numbers: list[float]
) -> None:
    values = torch.tensor(numbers).reshape(1, -1)
    levels = Levels.of(values, name, granularity)
    levels.check("w")
    sections = levels.sections()
    codings, cuts = [coding for _, coding, _ in sections], (bytes(data) for *_, data in sections)
    again = Levels.from_sections("w", [1, len(numbers)], levels.settings(), codings, cuts)
    assert torch.equal(again.decode(), levels.decode())
    assert bool((levels.decode()[values == 0] == 0).all())
    assert bool(levels.decode().isfinite().all())


@settings(max_examples=40)
@given(st.sampled_from(list(SYSTEMS)), st.integers(0, 99))
def test_every_value_goes_to_the_nearest_level(name: str, seed: int) -> None:
    values = normal(1, 40, seed=seed)
    levels = Levels.of(values, name)
    table = levels.system.levels.double() * levels.scale.double()
    best = (values.double().T - table).abs().amin(1)
    assert (values.double() - levels.decode().double()).abs().flatten().tolist() == pytest.approx(
        best.tolist(), abs=1e-6
    )


@pytest.mark.parametrize("name", SYSTEMS)
def test_bits_that_are_counted_are_the_bytes_that_are_written(name: str) -> None:
    """Codes that are spread evenly over all levels can't be written in fewer bits than they are wide."""
    system = SYSTEMS[name]
    places = torch.randint(0, len(system.values), (64, 1024), generator=torch.Generator().manual_seed(0))
    levels = Levels.of(system.levels[places], name, per_group(32))
    written = 8 * sum(len(data) for *_, data in levels.sections())
    ideal = places.numel() * math.log2(len(system.values))
    assert 0.99 * ideal < written < levels.fixed_bits() + 8 * 2048
    assert levels.fixed_bits() == places.numel() * system.bits + (
        levels.scale.numel() * {"none": 0, "float": 32, "exponent": 8}[system.scaling]
    )


def test_exponents_are_exact_at_powers_of_two() -> None:
    powers = torch.ldexp(torch.ones(200), torch.arange(-100, 100))
    assert floor_log2(powers).tolist() == list(range(-100, 100))
    assert floor_log2(torch.nextafter(powers, torch.zeros(()))).tolist() == list(range(-101, 99))


@pytest.mark.parametrize(
    ("settings", "codings", "parts", "says"),
    [
        (["fp7", ["tensor"]], ["packed", "raw"], [], "number system 'fp7' is not known"),
        (["nf4", ["axis", 0]], ["packed", "packed"], [b""], "unknown kind"),
        (["bf16", ["axis", 0]], ["packed"], [b""], "unknown kind"),
    ],
)
def test_a_file_that_no_levels_wrote_is_refused(
    settings: list[object], codings: list[str], parts: list[bytes], says: str
) -> None:
    good = Levels.of(torch.ones(1, 2), "nf4").sections()[0][2]
    with pytest.raises(FormatError, match=says):
        Levels.from_sections("w", [1, 2], settings, codings, iter([bytes(good), *parts]))


def test_a_code_beyond_the_table_is_refused() -> None:
    with pytest.raises(FormatError, match="a code of 'w' is no number of mxfp4: allowed are -7 to 7"):
        Levels(torch.tensor([8]), torch.ones(1), "mxfp4").check("w")


@pytest.mark.parametrize("name", SCALED)
def test_training_is_rounded_forward_and_held_at_the_ends(name: str) -> None:
    levels = Levels.of(normal(3, 8), name)
    module = levels.straight_through()
    latent = torch.tensor([[0.3, 1e6, -0.1]], requires_grad=True)
    out = module(latent)
    out.sum().backward()
    assert torch.equal(out, module.encode(latent).decode())
    assert latent.grad is not None
    assert latent.grad.tolist() == [[pytest.approx(1.0), 0.0, pytest.approx(1.0)]]
    assert [p.requires_grad for p in module.parameters()] == [True] * (SYSTEMS[name].scaling == "float")
