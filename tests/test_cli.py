"""The command: what it prints is what is on disk, and mistakes are one line."""

import json
import sys
from pathlib import Path

import odd_models
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import engine.techniques  # noqa: F401  (fills the registry)
from engine import cli
from engine.commands import app, compress
from engine.data import sets, user
from engine.figures import measure
from engine.file import packfile
from engine.net import zoo
from engine.recipe import technique
from engine.recipe.run import run
from engine.types import Recipe, SlimscopeError

RECIPE = '[["prune_weights",{"sparsity":0.9}],["quantize",{"bits":5,"granularity":"channel"}]]'


PRINTS = """
import torch
from torch import nn

def model():
    print("loading")
    net = nn.Linear(6, 3)
    net.load_state_dict(torch.load("beside.pt", weights_only=True))
    return nn.Sequential(net)

def data():
    print("reading")
    torch.manual_seed(2)
    x = torch.randn(40, 6)
    return tuple(torch.utils.data.TensorDataset(x, x[:, :3].argmax(1)) for _ in range(3))
"""


def call(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    cli.main(words)
    return capsys.readouterr().out


def fails(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit) as caught:
        cli.main(words)
    assert caught.value.code == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    return said.err


def test_models_lists_the_trained_nets_with_the_accuracy_of_their_cards(
    capsys: pytest.CaptureFixture[str],
) -> None:
    listed = json.loads(call(capsys, "models", "--json"))
    assert [model["name"] for model in listed] == zoo.trained()
    for model in listed:
        figures = {f["name"]: f for f in model["figures"]}
        assert model["figures"][0] == zoo.tested(model["name"])
        assert figures["parameters"]["value"] == zoo.card(model["name"])["parameters"]
        assert figures["multiply-adds"]["value"] == zoo.card(model["name"])["macs"]
    text = call(capsys, "models")
    assert all(name in text for name in zoo.trained())


def test_techniques_lists_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    listed = {known["name"]: known for known in json.loads(call(capsys, "techniques", "--json"))}
    assert list(listed) == list(technique.REGISTRY)
    for name, known in technique.REGISTRY.items():
        assert [s["name"] for s in listed[name]["settings"]] == list(known.knobs)
        assert {s["name"]: s["default"] for s in listed[name]["settings"]} == json.loads(
            json.dumps(dict(known.defaults))
        )
        assert all(s["help"] and s["allowed"] for s in listed[name]["settings"])
    assert "epochs = 3  (a whole number from 1 to 60)" in call(capsys, "techniques")


def test_compress_writes_decodes_and_measures(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "m.slim"
    printed = json.loads(call(capsys, "compress", "mlp-32", "--recipe", RECIPE, "--out", str(path), "--json"))
    figures = {f["name"]: f for f in printed["figures"]}
    original = zoo.load("mlp-32")
    bundle, _ = run(original, Recipe.from_key(RECIPE), None)
    test = sets.load("mnist").test
    expected = measure.accuracy(packfile.unpack(path.read_bytes()), test)
    before, after = measure.predictions(original, test), measure.predictions(bundle, test)
    assert path.read_bytes() == packfile.pack(bundle)
    assert figures["file size"]["value"] == path.stat().st_size
    assert figures["accuracy"] == expected.to_dict()
    assert figures["accuracy change"] == measure.paired_difference(before, after, test.labels).to_dict()
    assert figures["sparsity"]["value"] == pytest.approx(0.9, abs=1e-4)
    dense = (zoo.MODELS / "mlp-32.safetensors").stat().st_size
    assert figures["dense file of the original"]["value"] == dense
    assert figures["ratio"]["value"] == dense / path.stat().st_size
    for figure in printed["figures"]:
        assert set(figure) == {"name", "value", "unit", "basis", "how", "spread"}
        assert figure["unit"]
        assert figure["how"]
    assert printed["recipe"][0][1]["allocation"] == "global"


@pytest.mark.usefixtures("decoded_here")
def test_compress_reads_a_recipe_file_and_trains(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.json"
    recipe.write_text('[["prune_weights", {"sparsity": 0.5}], ["finetune", {"epochs": 1}]]')
    path = tmp_path / "m.slim"
    text = call(capsys, "compress", "mlp-32", "--recipe-file", str(recipe), "--out", str(path))
    assert "note: trained on 55,000 samples of mnist" in text
    assert f"{path.stat().st_size:,}" in text
    again = json.loads(call(capsys, "inspect", str(path), "--json"))
    assert [step[0] for step in again["recipe"]] == ["prune_weights", "finetune"]
    assert again["figures"][2]["value"] == pytest.approx(0.5, abs=1e-4)


@pytest.mark.usefixtures("decoded_here")
def test_bare_weights_are_packed_without_an_accuracy(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    save_file({"w": torch.randn(20, 30)}, tmp_path / "w.safetensors")
    words = ("--recipe", '[["quantize",{"bits":4}]]', "--out", str(tmp_path / "w.slim"), "--json")
    printed = json.loads(call(capsys, "compress", str(tmp_path / "w.safetensors"), *words))
    names = [f["name"] for f in printed["figures"]]
    assert "accuracy" not in names
    assert "file size" in names
    assert "not run" in printed["notes"][0]


@pytest.mark.usefixtures("decoded_here")
def test_a_file_that_looks_like_a_net_of_the_zoo_has_no_accuracy_unless_told(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path, out = tmp_path / "w.safetensors", tmp_path / "w.slim"
    save_file(zoo.load("mlp-32").state(), path)
    words = ("--recipe", "[]", "--out", str(out), "--json")

    def found(*more: str) -> tuple[dict[str, float], str]:
        printed = json.loads(call(capsys, *more))
        return {f["name"]: f["value"] for f in printed["figures"]}, " ".join(printed["notes"])

    figures, notes = found("compress", str(path), *words)
    assert "accuracy" not in figures
    assert "say --take-for mlp-32" in notes
    assert packfile.unpack(out.read_bytes()).arch.name == "bare"
    figures, notes = found("inspect", str(path), "--answers", "--json")
    assert "multiply-adds" not in figures
    card = zoo.card("mlp-32")["test accuracy"]["value"]
    figures, notes = found("compress", str(path), *words, "--take-for", "mlp-32")
    assert figures["accuracy"] == card
    assert "guessing" not in notes
    figures, _ = found("compress", str(out), *words)  # its header names the net, and nobody its inputs
    assert "accuracy" not in figures
    figures, _ = found("compress", str(out), *words, "--mean", "0", "--std", "1")
    assert figures["accuracy"] != card
    assert "do not fit lenet-5" in fails(capsys, "compress", str(path), *words, "--take-for", "lenet-5")


@pytest.mark.usefixtures("decoded_here")
def test_an_accuracy_near_chance_comes_with_a_warning(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    save_file(
        zoo.bundle_of("mlp-32", zoo.seeded("mlp-32", 1).state_dict()).state(), tmp_path / "w.safetensors"
    )
    words = ("--recipe", "[]", "--out", str(tmp_path / "w.slim"), "--take-for", "mlp-32")
    assert "guessing in 10 %" in call(capsys, "compress", str(tmp_path / "w.safetensors"), *words)


def test_inspect_adds_up(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "m.slim"
    path.write_bytes(packfile.pack(zoo.load("mlp-32")))
    found = json.loads(call(capsys, "inspect", str(path), "--json"))
    assert found["size"]["value"] == path.stat().st_size
    assert found["fingerprint"] == zoo.load("mlp-32").fingerprint
    assert sum(t["bytes"] for t in found["tensors"]) < found["size"]["value"]
    assert sum(torch.Size(t["shape"]).numel() for t in found["tensors"]) == 25_450
    assert "fc1.weight: dense (32, 784)" in call(capsys, "inspect", str(path))


def test_answers_depend_on_the_scaling(capsys: pytest.CaptureFixture[str]) -> None:
    plain = json.loads(call(capsys, "inspect", "mlp-32", "--answers", "--json"))["answers"]
    scaled = ("--mean", "0", "--std", "1")
    other = json.loads(call(capsys, "inspect", "mlp-32", "--answers", "--json", *scaled))["answers"]
    test = sets.load("mnist").test
    assert plain == measure.predictions(zoo.load("mlp-32"), test).tolist()
    assert len(other) == len(plain)
    assert other != plain


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("compress", "nothing", "--recipe", "[]", "--out", "x"), "model 'nothing' is neither a file"),
        (("compress", "mlp-32", "--recipe", "[", "--out", "x"), "is not JSON"),
        (("compress", "mlp-32", "--recipe", '[["fold",{}]]', "--out", "x"), "technique 'fold' is unknown"),
        (
            ("compress", "mlp-32", "--recipe", '[["prune_weights",{"sparsity":1.5}]]', "--out", "x"),
            "sparsity is 1.5: allowed is",
        ),
        (
            ("compress", "mlp-32", "--recipe", "[]", "--out", "/no/such/folder/x"),
            "which is no folder: allowed is",
        ),
        (("compress", "mlp-32", "--recipe", "[]", "--out", "/"), "/ is a folder: allowed is"),
        (("compress", "mlp-32", "--recipe-file", "/no/such/file", "--out", "x"), "No such file"),
        (("compress", "mlp-32", "--out", "x"), "--recipe"),
        (("inspect", "mlp-32", "--answers", "--mean", "1,2", "--std", "1"), "allowed are 1 numbers each"),
        (("inspect", "mlp-32", "--mean", "a"), "allowed are numbers"),
        (("inspect", __file__), "not a weights file"),
        (("fold",), "invalid choice"),
        ((), "COMMAND"),
    ],
)
def test_mistakes_are_one_line(
    words: tuple[str, ...],
    text: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert text in fails(capsys, *words)
    assert not list(tmp_path.iterdir())


def test_a_file_that_does_not_decode_is_said(tmp_path: Path) -> None:
    path = tmp_path / "bad.slim"
    path.write_bytes(b"SLIM")
    with pytest.raises(SlimscopeError, match=r"can't be used, and none is left: bad\.slim"):
        compress.decode_elsewhere(path, (), ())


def test_a_file_whose_answers_are_no_numbers_is_not_left(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(user.VARIABLE, "")
    code = ("--model", f"{odd_models.__file__}:normed", "--data", f"{odd_models.__file__}:vectors")
    recipe = ("--recipe", '[["prune_weights",{"sparsity":0.9}]]')
    out = tmp_path / "own.slim"
    out.write_bytes(b"of an earlier run")
    said = fails(capsys, "compress", *code, *recipe, "--out", str(out))
    assert "none is left: the model's outputs are not numbers for 40 of 40 samples" in said
    assert list(tmp_path.iterdir()) == [out]
    assert out.read_bytes() == b"of an earlier run"
    call(capsys, "compress", *code, "--recipe", "[]", "--out", str(out))
    assert packfile.unpack(out.read_bytes()).arch.name == "user:odd_models:normed"
    assert list(tmp_path.iterdir()) == [out]


def test_code_that_prints_and_reads_files_beside_it_is_compressed(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(user.VARIABLE, "")
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    torch.save(nn.Linear(6, 3).state_dict(), "beside.pt")
    (tmp_path / "prints.py").write_text(PRINTS)
    code = ("--model", "prints.py:model", "--data", "prints.py:data")
    said = json.loads(call(capsys, "compress", *code, "--recipe", "[]", "--out", "own.slim", "--json"))
    figures = {figure["name"]: figure["value"] for figure in said["figures"]}
    assert figures["file size"] == (tmp_path / "own.slim").stat().st_size
    assert figures["multiply-adds"] == 6 * 3


def test_the_app_is_served_by_this_python() -> None:
    command = app.app_command(Path("app.py"), 8600, "127.0.0.1")
    assert command[1:] == [
        "-m",
        "streamlit",
        "run",
        "app.py",
        "--server.port=8600",
        "--server.address=127.0.0.1",
    ]


def test_the_app_starts_with_a_weights_file_and_a_limit_and_refuses_what_it_cannot_show(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, bad = tmp_path / "net.safetensors", tmp_path / "bad.safetensors"
    save_file({"w": torch.ones(600, 500)}, path)
    save_file({"w": torch.tensor([1.0, float("nan")])}, bad)
    started: list[dict[str, str]] = []
    monkeypatch.setattr(app.os, "execve", lambda program, words, environment: started.append(environment))
    monkeypatch.chdir(tmp_path)
    cli.main(("app", "--weights", "net.safetensors", "--limit", "2"))
    assert started[0]["SLIMSCOPE_WEIGHTS"] == str(path)
    assert (started[0]["SLIMSCOPE_LIMIT"], started[0]["STREAMLIT_SERVER_MAX_UPLOAD_SIZE"]) == ("2000000", "2")
    assert "holds 1,200,080 bytes: allowed are at most 1,000,000" in fails(
        capsys, "app", "--weights", str(path), "--limit", "1"
    )
    assert "'w' holds 1 values that are NaN" in fails(capsys, "app", "--weights", str(bad))
    assert "No such file" in fails(capsys, "app", "--weights", str(tmp_path / "none.safetensors"))
    assert len(started) == 1
