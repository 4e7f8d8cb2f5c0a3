"""The script of a recipe makes the same bytes when it is run by itself."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import save_file

import engine.techniques  # noqa: F401  (fills the registry)
from engine.data import user
from engine.file import packfile
from engine.net import sources, zoo
from engine.recipe.knobs import SettingError
from engine.recipe.run import run
from engine.recipe.script import script
from engine.types import Recipe, Step

RECIPE = Recipe(
    (
        Step("prune_weights", {"sparsity": 0.8, "leave_out": ["fc2"]}),
        Step("quantize", {"bits": 4}, on=False),
        Step("quantize", {"bits": 5, "per_layer": {"fc2": 6}}),
    )
)


def run_script(text: str, folder: Path, *words: str) -> str:
    (folder / "again.py").write_text(text)
    root = Path(__file__).resolve().parent.parent.parent
    done = subprocess.run(
        [sys.executable, "-W", "error", "again.py", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_script_writes_the_same_bytes(tmp_path: Path) -> None:
    said = run_script(script("mlp-32", RECIPE), tmp_path)
    expected = packfile.pack(run(zoo.load("mlp-32"), RECIPE, None)[0])
    assert (tmp_path / "mlp-32.slim").read_bytes() == expected
    assert f"mlp-32.slim {len(expected)} bytes" in said
    assert "test accuracy 0.9" in said


def test_other_weights_come_as_an_argument(tmp_path: Path) -> None:
    state = {"a.weight": zoo.load("mlp-32").state()["fc1.weight"]}
    save_file(state, tmp_path / "mine.safetensors")
    recipe = Recipe((Step("prune_weights", {"sparsity": 0.5}),))
    said = run_script(script("file-0123456789abcdef", recipe), tmp_path, "mine.safetensors")
    assert packfile.unpack((tmp_path / "compressed.slim").read_bytes()).arch.name == "bare"
    assert "accuracy" not in said


def test_a_file_is_taken_for_a_net_where_its_owner_said_so(tmp_path: Path) -> None:
    save_file(zoo.load("mlp-32").state(), tmp_path / "mine.safetensors")
    told = script("file-0123456789abcdef", Recipe(), take_for="mlp-32")
    assert "test accuracy 0.97" in run_script(told, tmp_path, "mine.safetensors")
    untold = script("file-0123456789abcdef", Recipe())
    assert "accuracy" not in run_script(untold, tmp_path, "mine.safetensors")


def test_every_default_is_written_out_and_steps_that_are_off_are_left_out() -> None:
    tree = ast.parse(script("mlp-32", RECIPE))
    values = {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    assert values["MODEL"] == "mlp-32"
    names = [name for name, _ in values["RECIPE"]]
    assert names == ["prune_weights", "quantize"]
    assert values["RECIPE"][0][1]["allocation"] == "global"
    assert values["RECIPE"][1][1]["bits"] == 5


def test_scaling_and_strange_names_stay_data() -> None:
    text = script("mlp-32", Recipe(), (0.5,), (0.25,))
    assert ".standardised((0.5,), (0.25,))" in text
    strange = script('x"\nimport os', Recipe())
    assert ast.parse(strange)
    assert 'x"' not in strange


def test_a_wrong_recipe_is_refused() -> None:
    with pytest.raises(SettingError, match="sparsity is 2"):
        script("mlp-32", Recipe((Step("prune_weights", {"sparsity": 2}),)))


def test_the_script_of_your_own_model_runs_where_slimscope_was_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Path(__file__).resolve().parent.parent.parent
    monkeypatch.chdir(root)
    monkeypatch.setenv(user.VARIABLE, "")
    monkeypatch.setattr(sys, "path", list(sys.path))
    example = "assets/examples/own_model.py"
    user.name(f"{example}:model", f"{example}:data", student=f"{example}:student")
    recipe = Recipe((Step("prune_filters", {"removed": 0.3}), Step("quantize", {"bits": 6})))
    original = sources.load_user()
    text = script(f"user-{original.fingerprint}", recipe)
    assert f'model="{example}:model", data="{example}:data", student="{example}:student"' in text
    written = f"{tmp_path}/again.slim"
    (tmp_path / "again.py").write_text(text.replace(f"user-{original.fingerprint}.slim", written))
    told = {name: value for name, value in os.environ.items() if name != user.VARIABLE}
    command = [sys.executable, "-W", "error", str(tmp_path / "again.py")]
    done = subprocess.run(
        command,
        cwd=root,
        env={**told, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    expected = packfile.pack(run(original, recipe, sources.data(original.arch))[0])
    assert Path(written).read_bytes() == expected
    assert "test accuracy 0." in done.stdout
