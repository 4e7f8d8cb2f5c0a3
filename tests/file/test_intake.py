"""The user's own weights: what is understood, what is refused, and that the text says why."""

import io
import pickle
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save as save_safetensors
from torch import Tensor, nn

from engine.file import packfile
from engine.file.intake import IntakeError, find, read
from engine.net import sources, zoo
from engine.tensor.formats import Dense
from engine.types import Bundle

State = dict[str, Any]


def saved(value: object, **how: Any) -> bytes:
    file = io.BytesIO()
    torch.save(value, file, **how)
    return file.getvalue()


def weights(name: str = "mlp-32") -> dict[str, Tensor]:
    return dict(zoo.seeded(name, 7).state_dict())


def assert_same(bundle: Bundle, state: dict[str, Tensor]) -> None:
    assert set(bundle.params) == set(state)
    for name, tensor in state.items():
        assert isinstance(bundle.params[name], Dense)
        assert torch.equal(bundle.params[name].decode(), tensor)


@pytest.mark.parametrize("name", list(zoo.ENTRIES))
def test_every_net_of_the_zoo_is_recognised(name: str) -> None:
    state = weights(name)
    bundle, notes = read(saved(state), "mine.pt")
    assert bundle.arch.name == name
    assert zoo.entry(name).title in notes[0]
    assert len(notes) == 1
    assert_same(bundle, {n: t for n, t in state.items() if not n.endswith(sources.COUNTER)})
    assert zoo.build(bundle)


def test_safetensors_and_both_torch_formats_give_the_same_bundle() -> None:
    state = weights()
    prints = {
        read(content, file)[0].fingerprint
        for content, file in (
            (save_safetensors(state), "a.safetensors"),
            (saved(state), "a.PT"),
            (saved(state, _use_new_zipfile_serialization=False), "a.pth"),
        )
    }
    assert prints == {zoo.bundle_of("mlp-32", state).fingerprint}


@pytest.mark.parametrize("outer", ["state_dict", "model", "model_state", "net", "weights", "ema"])
@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "_orig_mod.module.", ""])
def test_outer_keys_and_prefixes_are_understood(outer: str, prefix: str) -> None:
    inner = {prefix + name: tensor for name, tensor in weights().items()}
    bundle, _ = read(saved({outer: inner, "epoch": 3, "loss": 0.5}), "checkpoint.pth")
    assert bundle.arch.name == "mlp-32"
    assert_same(bundle, weights())


def test_a_checkpoint_with_two_nets_says_which_was_taken() -> None:
    other = {name: torch.zeros_like(tensor) for name, tensor in weights().items()}
    bundle, notes = read(saved({"ema": other, "net": {"state_dict": weights()}}), "checkpoint.th")
    assert_same(bundle, weights())
    assert "taken from 'net'; left out: 'ema'" in notes


def arrays(**named: Any) -> bytes:
    file = io.BytesIO()
    np.savez(file, **named)
    return file.getvalue()


def test_arrays_of_numpy_are_read() -> None:
    state = {name: tensor.numpy() for name, tensor in weights().items()}
    bundle, _ = read(arrays(**state), "net.npz")
    assert_same(bundle, weights())
    swapped = {name: array.astype(">f4") for name, array in state.items()}
    assert read(arrays(**swapped), "net.npz")[0].fingerprint == bundle.fingerprint
    kept, notes = read(arrays(w=np.ones((2, 3)), step=np.array(3), names=np.array(["a", "b"])), "net.npz")
    assert set(kept.params) == {"w"}
    assert "left out, not floating-point: step, names" in notes


def test_arrays_that_need_code_or_lie_are_refused() -> None:
    refused(arrays(w=np.array([Runs()], dtype=object)), "a.npz", "'w.npy', which needs code to be read")
    refused(b"PK nothing", "a.npz", "a.npz is damaged or no .npz file")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        header = io.BytesIO()
        said = {"descr": "<f4", "fortran_order": False, "shape": (10**9, 10**3)}
        np.lib.format.write_array_header_1_0(header, said)
        archive.writestr("w.npy", header.getvalue() + bytes(16))
    refused(packed.getvalue(), "a.npz", "does not hold the .* numbers it says")


def test_a_prefix_that_only_some_have_stays() -> None:
    bundle, _ = read(saved({"module.a": torch.ones(2, 2), "b": torch.ones(2)}), "a.pt")
    assert set(bundle.params) == {"module.a", "b"}


def test_other_weights_are_bare() -> None:
    state = {**weights(), "fc2.weight": torch.ones(11, 32)}
    bundle, notes = read(save_safetensors(state), "a.safetensors")
    assert not bundle.arch.runs
    assert "not run" in notes[0]
    assert_same(bundle, state)


def test_other_float_types_become_32_bits_with_a_note() -> None:
    state = {
        "a": torch.ones(3, 3).half(),
        "b": torch.full((2, 2), 0.1).bfloat16(),
        "c": torch.ones(2).double(),
    }
    bundle, notes = read(saved(state), "a.pt")
    assert all(p.decode().dtype == torch.float32 for p in bundle.params.values())
    assert torch.equal(bundle.params["b"].decode(), state["b"].float())
    assert notes[1] == "converted to 32-bit floats from bfloat16, float16, float64"


def test_what_is_no_float_tensor_is_left_out_with_a_note() -> None:
    state = {
        "w": torch.ones(2, 2),
        "steps": torch.tensor(3),
        "mask": torch.ones(2, dtype=torch.bool),
        "lr": 0.1,
    }
    bundle, notes = read(saved({**state, "bn.num_batches_tracked": torch.tensor(9)}), "a.pt")
    assert set(bundle.params) == {"w"}
    assert notes[1] == "left out, not floating-point: steps, mask, lr"


def test_views_are_taken_in_by_themselves() -> None:
    base = torch.arange(12.0).reshape(3, 4)
    bundle, _ = read(saved({"t": base.t(), "row": base[1]}), "a.pt")
    assert_same(bundle, {"t": base.t().contiguous(), "row": base[1]})
    assert bundle.params["row"].decode().untyped_storage().nbytes() == 16


def test_a_packed_file_is_read_back() -> None:
    bundle = zoo.load("mlp-32")
    again, notes = read(packfile.pack(bundle), "small.slim")
    assert again.fingerprint == bundle.fingerprint
    assert notes == ()


def test_find_takes_a_name_or_a_path(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(save_safetensors(weights()))
    assert find("mlp-32")[0].fingerprint == zoo.load("mlp-32").fingerprint
    assert find(str(path), take_for="mlp-32")[0].fingerprint == zoo.bundle_of("mlp-32", weights()).fingerprint
    with pytest.raises(IntakeError, match="model 'nothing' is neither a file nor in the zoo: lenet-300-100"):
        find("nothing")
    with pytest.raises(IntakeError, match="allowed are at most 10"):
        find(str(path), limit=10)


# ---------------------------------------------------------------- refused


class Runs:
    """A pickle that runs code when it is read the careless way."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("/tmp/slimscope-was-run"),))


def refused(content: bytes, file: str, match: str, limit: int = 1_000_000) -> None:
    with pytest.raises(IntakeError, match=match):
        read(content, file, limit)


def test_code_is_never_run() -> None:
    refused(saved({"w": Runs()}), "a.pt", "needs code to be read")
    refused(saved(nn.Linear(2, 2)), "a.pth", "needs code to be read")
    refused(pickle.dumps(Runs()), "a.pt", "needs code|damaged")
    assert not Path("/tmp/slimscope-was-run").exists()


@pytest.mark.parametrize("file", ["a.pt", "a.pth", "a.safetensors", "a.slim"])
def test_damaged_files(file: str) -> None:
    whole = {
        "a.safetensors": save_safetensors(weights()),
        "a.slim": packfile.pack(zoo.load("mlp-32")),
    }.get(file, saved(weights()))
    refused(whole[: len(whole) // 2], file, file)
    refused(b"not a net at all", file, file)
    refused(b"", file, f"{file} is empty")


def test_too_large() -> None:
    content = saved(weights())
    refused(content, "a.pt", rf"a.pt holds {len(content):,} bytes: allowed are at most 100,000", 100_000)


def test_a_view_that_unfolds_to_more_than_the_limit() -> None:
    content = saved({"w": torch.ones(1).expand(10**12)})
    assert len(content) < 5000
    refused(content, "a.pt", "4,000,000,000,000 bytes: allowed are at most 1,000,000")


def test_an_archive_that_unpacks_to_more_than_the_limit() -> None:
    packed = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(saved({"w": torch.zeros(1_000_000)}))) as old,
        zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for item in old.infolist():
            new.writestr(item.filename, old.read(item))
    assert len(packed.getvalue()) < 100_000
    refused(packed.getvalue(), "a.pt", "allowed are at most 1,000,000")


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_no_numbers_are_named_by_tensor(bad: float) -> None:
    state = weights()
    state["fc1.weight"][3, 5] = bad
    refused(save_safetensors(state), "a.safetensors", r"'fc1.weight' holds 1 values that are NaN or infinite")


def test_a_double_that_does_not_fit() -> None:
    refused(saved({"w": torch.tensor([1e300]).double()}), "a.pt", r"as a 32-bit float \(it came as float64\)")


@pytest.mark.parametrize(
    ("tensor", "text"),
    [
        (torch.ones(2, dtype=torch.complex64), "'w' is complex"),
        (torch.zeros(0, 3), r"'w' is empty \(shape \(0, 3\)\)"),
        (torch.eye(3).to_sparse(), "'w' is torch.sparse_coo"),
    ],
)
def test_tensors_of_another_kind(tensor: Tensor, text: str) -> None:
    refused(saved({"w": tensor, "v": torch.ones(2)}), "a.pt", text)


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor", "ignore:TypedStorage is deprecated")
def test_quantized_tensors() -> None:
    scale = torch.quantize_per_tensor(torch.ones(3, 3), 0.1, 0, torch.qint8)
    refused(saved({"w": scale}), "a.pt", "'w' is quantized already")


def test_no_floating_point_tensor_at_all() -> None:
    refused(saved({"w": torch.ones(3, dtype=torch.int64)}), "a.pt", "no floating-point tensor")
    refused(saved({}), "a.pt", "no floating-point tensor")
    refused(saved([torch.ones(3)]), "a.pt", "holds a list: a state_dict")
    refused(saved(torch.ones(3)), "a.pt", "holds a Tensor: a state_dict")


def test_another_kind_of_file() -> None:
    refused(b"1234", "net.onnx", "net.onnx is an ONNX model: open the weights")
    refused(b"1234", "net.txt", "net.txt is not a weights file: allowed are .safetensors, .pt, .pth, .th,")


SEEDS = {"a.pt": saved({"w": torch.ones(4, 4)}), "a.safetensors": save_safetensors({"w": torch.ones(4, 4)})}


@given(st.sampled_from(sorted(SEEDS)), st.data())
@settings(max_examples=150, deadline=None)
def test_a_broken_file_is_a_bundle_or_a_sentence(file: str, draw: st.DataObject) -> None:
    content = bytearray(SEEDS[file])
    for _ in range(draw.draw(st.integers(1, 4))):
        content[draw.draw(st.integers(0, len(content) - 1))] = draw.draw(st.integers(0, 255))
    # Anything but a bundle or an IntakeError is raised here and fails the test.
    with suppress(IntakeError):
        bundle, _ = read(bytes(content), file, limit=1_000_000)
        assert all(torch.isfinite(tensor).all() for tensor in bundle.state().values())
