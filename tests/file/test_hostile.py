"""Files that nobody should have written: each is opened and can be shown, or is refused in a sentence."""

from __future__ import annotations

import copy
import functools
import io
import json
import pickle
import random
import subprocess
import sys
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save as save_safetensors

import engine.techniques  # noqa: F401  (fills the registry: names of techniques are checked)
from engine.file import checks, packfile
from engine.file.intake import IntakeError, read
from engine.file.packfile.head import FIELDS, squeezed
from engine.file.packfile.words import WORDS
from engine.net import sources, zoo
from engine.recipe.technique import step
from engine.tensor import codes, grids
from engine.tensor.formats import AffineGrid, Codebook, Dense, Product
from engine.tensor.granularity import TENSOR, per_axis, per_group
from engine.types import Arch, Bundle, Param, Recipe, Step

Change = Callable[[dict[str, Any]], None]


def seeded(arch: Arch, *steps: Step) -> Bundle:
    """A net of this architecture with random weights, small enough for thousands of files."""
    generator = torch.Generator().manual_seed(0)
    params = {
        name: Dense(torch.rand(tensor.shape, generator=generator) + 0.1)
        for name, tensor in zoo.skeleton(arch).state_dict().items()
        if not name.endswith(sources.COUNTER)
    }
    return Bundle(arch, params, None, Recipe(steps))


def tiny() -> Bundle:
    """Edits of two kinds and all three formats in one net of 500 weights."""
    arch = Arch("mlp-32").edit("narrow", outputs={"fc1": 4}, inputs={"fc2": 4}, pads={})
    arch = arch.edit("split", layer="fc1", rank=2, form="linear")
    arch = arch.edit("quantize_input", layer="fc2", bits=8, symmetric=False, dynamic=False)
    bundle = seeded(arch, step("prune_weights", sparsity=0.5), step("low_rank", by="rank", rank=2))
    params: dict[str, Param] = dict(bundle.params)
    weight = params["fc2.weight"].decode()
    params["fc2.weight"] = grids.quantize(weight - 0.5, 4, symmetric=False, granularity=per_group(3))
    codes = torch.arange(params["fc1.1.weight"].decode().numel(), dtype=torch.int32) % 3
    params["fc1.1.weight"] = Codebook(
        codes.reshape(params["fc1.1.weight"].shape), torch.tensor([0.0, 1.0, 2.0])
    )
    return bundle.become(params)


def bare() -> Bundle:
    grid = grids.quantize(torch.linspace(-1, 1, 24).reshape(4, 6), 3, granularity=per_axis(0))
    return Bundle(Arch("bare"), {"a": grid, "b": Dense(torch.eye(5)), "c": Dense(torch.ones(3))})


def coded(coder: str) -> bytes:
    """A sparse matrix of codes, enough of them for each coder."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(48, 40, generator=generator) * (torch.rand(48, 40, generator=generator) < 0.2)
    with codes.only(coder):
        return packfile.pack(Bundle(Arch("bare"), {"a": grids.quantize(weight, 4, granularity=TENSOR)}))


TINY, BARE = packfile.pack(tiny()), packfile.pack(bare())
FIRST = [
    (Path(__file__).parent / version / f"{name}.slim").read_bytes()
    for version in ("version1", "version2")
    for name in ("edited", "tied")
]


def after_words(packed: bytes) -> bytes:
    """The header of a file of version 3, without its checksum."""
    return zlib.decompressobj(-zlib.MAX_WBITS, WORDS).decompress(packed[:-4])


def apart(packed: bytes) -> tuple[int, dict[str, Any], bytes]:
    """(checksum, header, sections) of a file."""
    *_, checksum, length = packfile.PREFIX.unpack(packed[: packfile.PREFIX.size])
    body = packfile.PREFIX.size + length
    plain = zlib.decompress if packed[4] < 3 else after_words
    fields = json.loads(plain(packed[packfile.PREFIX.size : body]))
    header = dict(zip(FIELDS, fields, strict=True)) if isinstance(fields, list) else fields
    return checksum, header, packed[body:]


def joined(checksum: int, header: dict[str, Any], body: bytes, version: int = packfile.VERSION) -> bytes:
    fields = header if version == 1 else list(header.values())
    text = json.dumps(fields).encode()
    packed = zlib.compress(text) if version < 3 else squeezed(text)
    return packfile.PREFIX.pack(b"SLIM", version, checksum, len(packed)) + packed + body


def changed(packed: bytes, change: Change) -> bytes:
    """The file with another header, which its writer meant."""
    checksum, header, body = apart(packed)
    change(header)
    return joined(checksum, header, body)


def assert_can_be_shown(bundle: Bundle) -> None:
    assert packfile.difference(packfile.unpack(packfile.pack(bundle)), bundle) is None
    assert len(bundle.fingerprint) == 16
    assert all(bool(torch.isfinite(values).all()) and values.numel() for values in bundle.state().values())
    if bundle.arch.runs:
        answers = zoo.build(bundle)(torch.ones(2, *sources.inputs(bundle.arch).shape[1:]))
        assert answers.shape == (2, 10)
        assert bool(torch.isfinite(answers).all())


def is_taken(content: bytes, name: str = "a.slim") -> bool:
    """Whether the file is opened; anything but a net that can be shown or a sentence fails the test."""
    try:
        bundle, _ = read(content, name, limit=50_000_000)
    except IntakeError as error:
        text = str(error)
        assert len(text) < 1500
        text.encode()  # it can be shown
        return False
    assert_can_be_shown(bundle)
    return True


def refused(content: bytes, match: str, name: str = "a.slim") -> None:
    with pytest.raises(IntakeError, match=match) as caught:
        read(content, name, limit=50_000_000)
    str(caught.value).encode()


def test_what_the_files_are_made_from_is_taken() -> None:
    for coder in ("context", "relative"):
        assert is_taken(coded(coder))
        assert coder in json.dumps(apart(coded(coder))[1])
    assert is_taken(TINY)
    assert is_taken(BARE)


# ---------------------------------------------------------------- by chance


ODD: tuple[Any, ...] = (
    *(None, True, False, -1, 0, 1, 2, 7, 9, 1 << 31, 1 << 40, 10**30, 0.5, 1e300),
    *("", "bare", "fc1.weight", "grid", "raw", "packed", "steps", "\ud800", "x" * 5000),
    *([], [[]], {}, [1] * 12, ["raw"], ["dense", [2]], [0, [2]], {"layer": "fc1"}),
    *(["group", 0, 3], ["block", 2, 2], ["token"], "token", "group"),
)


def places(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value in JSON data."""
    yield path
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, child in items:
        yield from places(child, (*path, key))


def mutate(header: dict[str, Any], chance: random.Random) -> None:
    """Change one value of a header: to an odd one, to another of its own, twice, or away."""
    every = list(places(header))[1:]
    path = chance.choice(every)
    *way, last = path
    parent = functools.reduce(lambda node, key: node[key], way, header)
    match chance.randrange(5):
        case 0:
            del parent[last]
        case 1 if isinstance(parent, list):
            parent.insert(last, copy.deepcopy(parent[last]))
        case 2:
            other = functools.reduce(lambda node, key: node[key], chance.choice(every), header)
            parent[last] = copy.deepcopy(other)
        case 3 if type(parent[last]) is int:
            parent[last] += chance.choice((-1, 1, 8))
        case _:
            parent[last] = copy.deepcopy(chance.choice(ODD))


@pytest.mark.parametrize(
    ("packed", "files"),
    [(TINY, 3000), (BARE, 1000), (FIRST[0], 600), (FIRST[1], 600)],
    ids=["net", "bare", "version 1 net", "version 1 bare"],
)
def test_changed_headers(packed: bytes, files: int) -> None:
    chance, checksum_and_all = random.Random(0), apart(packed)
    taken, slowest = 0, 0.0
    for _ in range(files):
        checksum, header, body = copy.deepcopy(checksum_and_all)
        for _ in range(chance.choice((1, 1, 1, 2, 4))):
            mutate(header, chance)
        start = time.process_time()
        taken += is_taken(joined(checksum, header, body, packed[4]))
        slowest = max(slowest, time.process_time() - start)
    assert 0 < taken < files / 2  # a new name, a step switched off
    assert slowest < 10


@pytest.mark.parametrize(
    ("name", "content", "files"),
    [
        ("a.slim", TINY, 1000),
        ("a.slim", BARE, 800),
        ("a.slim", FIRST[1], 300),
        ("a.slim", coded("context"), 300),
        ("a.slim", coded("relative"), 300),
        ("a.safetensors", save_safetensors({"w": torch.eye(4), "b": torch.ones(4)}), 200),
    ],
    ids=["net", "bare", "version 1", "contexts", "distances", "safetensors"],
)
def test_flipped_bits_and_cut_files(name: str, content: bytes, files: int) -> None:
    chance, seconds = random.Random(1), 0.0
    for number in range(files):
        flipped = bytearray(content)
        if number % 10 == 9:
            flipped = flipped[: chance.randrange(1, len(content))]
            assert not is_taken(bytes(flipped), name), "a file that was cut off is opened"
            continue
        place = chance.randrange(8 * len(content))
        flipped[place // 8] ^= 1 << place % 8
        start = time.process_time()
        is_taken(bytes(flipped), name)
        seconds = max(seconds, time.process_time() - start)
    assert seconds < 10


# ---------------------------------------------------------------- by hand


SPLIT = {"layer": "fc2", "rank": 2, "form": "linear"}
ROUND = {"layer": "fc1", "bits": 8, "symmetric": True, "dynamic": True}
CHAIN = {"layer": "fc2", "design": "separable", "groups": 1, "expansion": 1}
NARROW: dict[str, Any] = {"outputs": {}, "inputs": {}, "pads": {}}


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (("explode", {}), "edit 'explode' is unknown"),
        (("split", {"layer": "fc1"}), "has the settings .'layer'.: needed are layer, rank, form"),
        (("split", SPLIT | {"rank": "2"}), "rank of edit 'split' is '2': allowed is int"),
        (("split", SPLIT | {"rank": True}), "rank of edit 'split' is True"),
        (("split", SPLIT | {"rank": -2}), "rank of edit 'split' is -2"),
        (("split", SPLIT | {"rank": 0}), "the rank of layer 'fc2' is 0: allowed are numbers from 1 on"),
        (("split", SPLIT | {"layer": "fc9"}), "'fc9' is not in this model"),
        (("split", SPLIT | {"form": "round"}), "has no 'round' split"),
        (("split", SPLIT), "'fc2.0.weight' is missing"),
        (("tucker", {"layer": "fc2", "outputs": 1, "inputs": 1}), "has no 'tucker' split"),
        (("tucker", {"layer": "fc2", "rank": 1}), "needed are layer, outputs, inputs"),
        (("split", SPLIT | {"layer": "0." * 500}), "lies deeper"),
        (("quantize_input", ROUND | {"bits": 1 << 30}), "1073741824 bits: allowed are 1 to 16"),
        (("narrow", NARROW | {"outputs": {"fc2": 5}}), "'fc2.weight' has the shape"),
        (("narrow", NARROW | {"outputs": []}), "outputs of edit 'narrow' is .."),
        (("condense", {"layer": "fc2", "reads": [[0], [1]]}), "can't be condensed"),
        (("replace_conv", CHAIN), "layer 'fc2' can't be separable: it is no 2-D convolution"),
        (("replace_conv", CHAIN | {"design": "round"}), "design is 'round'"),
        (("replace_conv", CHAIN | {"groups": "2"}), "groups of edit 'replace_conv' is '2': allowed is int"),
        (("fold", {"layer": "fc2", "normal": "fc1"}), "'fc1' can't become a part of 'fc2'"),
        (("fold", {"layer": "fc2"}), "needed are layer, normal"),
        (("narrow", {"self": 1}), "an architecture is"),
    ],
)
def test_edits(edit: tuple[str, dict[str, Any]], says: str) -> None:
    verb, settings = edit
    refused(changed(TINY, lambda header: header["arch"][1].append([verb, settings])), says)


def test_too_many_edits_are_refused_at_once() -> None:
    start = time.process_time()
    refused(
        changed(BARE, lambda header: header["arch"].__setitem__(1, [["split", {}]] * 100_000)),
        "100,000 edits: allowed are at most 1,000",
    )
    assert time.process_time() - start < 5


def test_edits_as_many_as_are_allowed_are_quick() -> None:
    edits = [["quantize_input", ROUND]] * checks.MOST_EDITS
    start = time.process_time()
    refused(changed(TINY, lambda header: header["arch"].__setitem__(1, edits)), "quantized already")
    assert time.process_time() - start < 5


def test_a_shortcut_is_not_padded_beyond_what_it_can_have() -> None:
    arch = Arch("resnet-8").edit("narrow", outputs={}, inputs={}, pads={"layer2.0": [60_000, 60_000]})
    bundle = seeded(Arch("resnet-8"))
    refused(
        packfile.pack(Bundle(arch, bundle.params)), r"can't be padded by \[60000, 60000\]: it has \(8, 8\)"
    )


def test_a_net_whose_tensors_fit_and_whose_layers_do_not_is_refused() -> None:
    arch = Arch("mlp-32").edit("narrow", outputs={"fc1": 5}, inputs={}, pads={})
    refused(packfile.pack(seeded(arch)), "can't be built or run")


def test_a_net_with_other_answers_is_refused() -> None:
    arch = Arch("mlp-32").edit("narrow", outputs={"fc2": 5}, inputs={}, pads={})
    refused(packfile.pack(seeded(arch)), r"its answers have the shape \(1, 5\)")


def test_a_group_that_reads_a_channel_twice_is_refused() -> None:
    arch = Arch("lenet-5-small")
    bundle = Bundle(arch.edit("condense", layer="conv2", reads=[[0] * 4, [1] * 4]), seeded(arch).params)
    refused(packfile.pack(bundle), "reads a channel twice")


@pytest.mark.parametrize("name", ["imagenet", "", "user", "\ud800"])
def test_unknown_architectures(name: str) -> None:
    refused(changed(BARE, lambda header: header["arch"].__setitem__(0, name)), "architecture .* is unknown")


def test_tensors_that_do_not_fit_take_no_memory() -> None:
    def swell(header: dict[str, Any]) -> None:
        header["tensors"][0][1] = [1 << 13, 1 << 13]

    refused(changed(TINY, swell), "do not fit mlp-32")


def test_unknown_techniques_and_too_many_steps() -> None:
    refused(
        packfile.pack(Bundle(Arch("bare"), bare().params, None, Recipe((step("quantize"),) * 201))),
        "201 steps",
    )
    refused(
        changed(BARE, lambda header: header["recipe"].append(["melt", {}])), "technique 'melt' is unknown"
    )
    refused(changed(BARE, lambda header: header["recipe"].append(["\ud800", {}])), "half of a surrogate")


def only(param: Param, name: str = "w") -> bytes:
    return packfile.pack(Bundle(Arch("bare"), {name: param}))


INTS = torch.tensor([[0, 1], [2, 3]], dtype=torch.int32)


def one_grid(scale: float, bits: int = 8, top: int = 1, group: int | None = None) -> AffineGrid:
    zero = torch.zeros(1, dtype=torch.int32)
    granularity = TENSOR if group is None else per_group(group, None)
    return AffineGrid(INTS * top, torch.tensor([scale]), zero, bits, granularity)


@pytest.mark.parametrize(
    ("param", "says"),
    [
        (Dense(torch.tensor([[1.0, float("nan")]])), "'w' holds 1 values that are NaN"),
        (Dense(torch.tensor([[1.0, float("inf")]])), "'w' holds 1 values that are NaN"),
        (Dense(torch.tensor([[1.0, 3.4e38]])), "holds 3.4e.38: allowed are values up to 1e.12"),
        (Dense(torch.tensor([[1.0, -3.4e38]])), "holds 3.4e.38: allowed are values up to 1e.12"),
        (Dense(torch.zeros(3, 0)), r"'w' is empty \(shape \(3, 0\)\)"),
        (one_grid(float("nan")), "scale of tensor 'w' holds 1 values that are NaN"),
        (one_grid(float("inf")), "scale of tensor 'w' holds 1 values that are NaN"),
        (one_grid(0.0), "a scale of 'w' is 0"),
        (one_grid(-1.0), "a scale of 'w' is -1"),
        (one_grid(1e11, top=1000), "tensor 'w' holds 3e.14"),
        (one_grid(1.0, bits=40), "have 40 bits: allowed are 1 to 16"),
        (Codebook(INTS, torch.tensor([1.0, 2.0, float("nan"), 0.0])), "table of tensor 'w' holds 1 values"),
        (
            Product(INTS[0], torch.tensor([[1.0], [float("inf")]]), (1, 2)),
            "table of tensor 'w' holds 1 values",
        ),
    ],
)
def test_numbers(param: Param, says: str) -> None:
    refused(only(param), says)


def test_a_group_longer_than_its_row_takes_no_more_memory_than_the_row() -> None:
    bundle, _ = read(only(one_grid(0.5, group=(1 << 31) - 1)), "a.slim")
    assert bundle.params["w"].decode().tolist() == [[0.0, 0.5], [1.0, 1.5]]


def test_a_net_that_answers_with_infinity_is_refused() -> None:
    bundle = seeded(Arch("mlp-500-300"))
    params = {**bundle.params, "bn1.running_var": Dense(-torch.ones(500))}
    refused(packfile.pack(bundle.become(params)), "answers with NaN or infinity")
    state = {name: param.decode() for name, param in params.items()}
    refused(save_safetensors(state), "answers with NaN or infinity", "a.safetensors")


# ---------------------------------------------------------------- the same for every kind of file


def as_torch(state: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    torch.save(state, file)
    return file.getvalue()


def as_slim(state: dict[str, torch.Tensor]) -> bytes:
    return packfile.pack(Bundle(Arch("bare"), {name: Dense(tensor) for name, tensor in state.items()}))


@pytest.mark.parametrize(
    ("write", "name"),
    [(as_slim, "a.slim"), (save_safetensors, "a.safetensors"), (as_torch, "a.pt")],
    ids=["slim", "safetensors", "torch"],
)
@pytest.mark.parametrize(
    ("state", "says"),
    [
        ({"w": torch.ones([1] * 9)}, "(more than|has) (8 dimensions|9 axes)"),
        ({"w": torch.tensor([[3.4e38]])}, "allowed are values up to"),
        ({"w" * 301: torch.ones(1)}, "a name of 301 characters: allowed are 1 to 300"),
        ({"": torch.ones(1)}, "a name of 0 characters: allowed are 1 to 300"),
        ({f"w{i}": torch.ones(1) for i in range(10_001)}, "10,001 tensors: allowed are 1 to 10,000"),
    ],
    ids=["axes", "large", "long", "nameless", "many"],
)
def test_one_check_for_every_format(
    write: Callable[[dict[str, torch.Tensor]], bytes], name: str, state: dict[str, torch.Tensor], says: str
) -> None:
    refused(write(state), says, name)


def test_half_a_character_in_a_name() -> None:
    refused(changed(BARE, lambda header: header["names"].__setitem__(0, "a\ud800")), "half a character")
    refused(as_torch({"a\ud800": torch.ones(2)}), "half a character|damaged", "a.pt")


class Runs:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("/tmp/slimscope-was-run"),))


@pytest.mark.parametrize("name", ["a.slim", "a.pt", "a.pth", "a.safetensors"])
def test_pickles_are_not_run(name: str) -> None:
    for content in (pickle.dumps(Runs()), as_torch({"w": Runs()}), pickle.dumps({"w": 1})):
        assert not is_taken(content, name)
    assert not Path("/tmp/slimscope-was-run").exists()


def test_archives_that_swell() -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\0" * 60_000_000)
    refused(packed.getvalue(), "allowed are at most 50,000,000", "a.pt")


def header_of_zeros(length: int) -> bytes:
    packed = squeezed(b"[" * length)
    return packfile.PREFIX.pack(b"SLIM", packfile.VERSION, 0, len(packed)) + packed


@pytest.mark.parametrize("length", [100_000, 1 << 23, 1 << 26])
def test_headers_of_brackets(length: int) -> None:
    assert not is_taken(header_of_zeros(length))


LARGE = """
import sys, time, resource, torch
import engine.techniques
from engine.file import intake
from pathlib import Path
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    intake.open_file(Path(sys.argv[1]))
except intake.IntakeError as error:
    print(error, file=sys.stderr)
print(before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time())
"""


def test_a_small_file_that_holds_as_many_zeros_as_are_allowed(tmp_path: Path) -> None:
    path = tmp_path / "zeros.slim"
    path.write_bytes(swollen())
    assert path.stat().st_size < 10_000
    ran = subprocess.run([sys.executable, "-c", LARGE, str(path)], capture_output=True, text=True, check=True)
    before, after, seconds = map(float, ran.stdout.split())
    assert after - before < 1_900_000  # KiB
    assert seconds < 30


def swollen() -> bytes:
    """A grid of 2^27 codes that are all zero, in a few bytes."""
    flat = packfile.pack(Bundle(Arch("bare"), {"w": Dense(torch.zeros(1 << 12, 1 << 8))}))

    def swell(header: dict[str, Any]) -> None:
        header["tensors"][0][1] = [1 << 14, 1 << 13]

    return changed(flat, swell)
