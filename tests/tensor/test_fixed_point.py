"""Integer arithmetic by hand, against floats, and against ONNX Runtime's quantized operators."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from machine import SIGNED
from onnx import TensorProto, helper, numpy_helper

from engine.tensor.fixed_point import (
    convolution_sums,
    fixed_multiplier,
    largest_sum,
    linear_sums,
    rescaled,
    wrapped,
)
from engine.types import SlimscopeError

# ---------------------------------------------------------------- by hand


def test_a_multiplier_is_a_mantissa_and_a_shift() -> None:
    mantissa, shift = fixed_multiplier(torch.tensor([0.75, 0.25, 3.0], dtype=torch.float64))
    assert mantissa.tolist() == [3 * 2**29, 2**30, 3 * 2**29]
    assert shift.tolist() == [31, 32, 29]


def test_a_mantissa_that_rounds_up_to_one_is_a_half() -> None:
    mantissa, shift = fixed_multiplier(torch.tensor(1 - 2**-40, dtype=torch.float64))
    assert (int(mantissa), int(shift)) == (2**30, 30)


def test_halves_go_away_from_zero() -> None:
    sums = torch.tensor([1, -1, 3, -3, 5])
    assert rescaled(sums, *fixed_multiplier(torch.tensor(0.5))).tolist() == [1, -1, 2, -2, 3]


def test_what_is_far_too_small_is_zero() -> None:
    sums = torch.tensor([2**31 - 1, -(2**31)])
    assert rescaled(sums, *fixed_multiplier(torch.tensor(2.0**-40))).tolist() == [0, 0]


@pytest.mark.parametrize("real", [0.0, -0.5, 2.0**30, float("nan")])
def test_a_multiplier_that_is_none_is_refused(real: float) -> None:
    with pytest.raises(SlimscopeError, match="above 0 and below"):
        fixed_multiplier(torch.tensor(real))


def test_sums_by_hand_and_how_far_they_reach() -> None:
    weight, bias = torch.tensor([[1, -2], [3, 4]]), torch.tensor([10, -1])
    assert linear_sums(torch.tensor([[5, 7]]), weight, bias).tolist() == [[1, 42]]
    assert largest_sum(weight, bias, 255) == 255 * 7 + 1
    assert wrapped(torch.tensor([-(2**31) - 1])).tolist() == [2**31 - 1]


# ---------------------------------------------------------------- against floats


@given(
    st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=20),
    st.floats(1e-9, 1000.0),
)
def test_rescaling_is_within_half_a_step_and_the_mantissa_s_last_digit(sums: list[int], real: float) -> None:
    mantissa, shift = fixed_multiplier(torch.tensor(real, dtype=torch.float64))
    assert 2**30 <= int(mantissa) < 2**31
    found = rescaled(torch.tensor(sums), mantissa, shift)
    for value, now in zip(sums, found.tolist(), strict=True):
        assert abs(now - value * real) <= 0.5 + abs(value * real) * 2**-30


# ---------------------------------------------------------------- against ONNX Runtime


def run_node(op: str, inputs: dict[str, Any], **attributes: Any) -> np.ndarray:
    """What ONNX Runtime's operator gives for constants; the first input is fed."""
    first, *rest = inputs
    typed = helper.np_dtype_to_tensor_dtype(inputs[first].dtype)
    ends = [
        helper.make_tensor_value_info(first, typed, list(inputs[first].shape)),
        helper.make_tensor_value_info("y", TensorProto.UINT8, None),
    ]
    node = helper.make_node(op, list(inputs), ["y"], **attributes)
    fixed = [numpy_helper.from_array(np.asarray(inputs[name]), name) for name in rest]
    graph = helper.make_graph([node], "one", ends[:1], ends[1:], fixed)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found: np.ndarray = session.run(None, {first: inputs[first]})[0]
    return found


def steps_apart(ours: torch.Tensor, theirs: np.ndarray) -> np.ndarray:
    return np.abs(ours.numpy() - theirs.astype(np.int64))


def grid(rng: np.random.Generator, outputs: int, each: bool) -> np.ndarray:
    return rng.uniform(0.001, 0.01, outputs if each else ()).astype(np.float32)


@pytest.mark.parametrize("unsigned", [SIGNED, True])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("groups", "each"), [(1, False), (1, True), (2, True)])
def test_a_convolution_is_within_a_step_of_qlinearconv(
    seed: int, groups: int, each: bool, unsigned: bool
) -> None:
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 256, (2, 4, 9, 9), dtype=np.uint8)
    w = rng.integers(-127, 128, (6, 4 // groups, 3, 3)).astype(np.int8)
    bias = rng.integers(-2000, 2000, 6).astype(np.int32)
    sx, sw, sy, zx, zy = np.float32(0.02), grid(rng, 6, each), np.float32(0.11), np.uint8(113), np.uint8(90)
    zero = np.full(sw.shape, 128 if unsigned else 0, np.uint8 if unsigned else np.int8)
    coded = (w.astype(int) + 128).astype(np.uint8) if unsigned else w
    names = ("x", "sx", "zx", "w", "sw", "zw", "sy", "zy", "b")
    given = dict(zip(names, (x, sx, zx, coded, sw, zero, sy, zy, bias), strict=True))
    theirs = run_node("QLinearConv", given, strides=[2, 2], pads=[1, 1, 1, 1], group=groups)
    centred = torch.tensor(x).long() - int(zx)
    sums = convolution_sums(
        centred, torch.tensor(w).long(), torch.tensor(bias).long(), (2, 2), (1, 1), (1, 1), groups
    )
    real = torch.tensor(sx).double() * torch.tensor(sw).double() / torch.tensor(sy).double()
    over = real.view(-1, 1, 1) if each else real
    ours = (rescaled(sums, *fixed_multiplier(over)) + int(zy)).clamp(0, 255)
    apart = steps_apart(ours, theirs)
    assert apart.max() <= 1
    assert apart.mean() < 0.01
    assert len(np.unique(theirs)) > 50  # not all at the ends


@pytest.mark.parametrize("seed", range(3))
def test_a_linear_layer_is_within_a_step_of_qlinearmatmul(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 256, (5, 40), dtype=np.uint8)
    w = rng.integers(0, 256, (40, 7), dtype=np.uint8)
    sx, sw, sy = np.float32(0.03), np.float32(0.004), np.float32(0.2)
    zx, zw, zy = np.uint8(20), np.uint8(131), np.uint8(128)
    names = ("x", "sx", "zx", "w", "sw", "zw", "sy", "zy")
    theirs = run_node("QLinearMatMul", dict(zip(names, (x, sx, zx, w, sw, zw, sy, zy), strict=True)))
    weight = (torch.tensor(w).long() - int(zw)).T
    sums = linear_sums(torch.tensor(x).long() - int(zx), weight, torch.zeros(7, dtype=torch.long))
    multiplier = fixed_multiplier(torch.tensor(float(sx) * float(sw) / float(sy), dtype=torch.float64))
    ours = (rescaled(sums, *multiplier) + int(zy)).clamp(0, 255)
    assert steps_apart(ours, theirs).max() <= 1
    assert len(np.unique(theirs)) > 10
