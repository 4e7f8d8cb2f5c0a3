"""A net from any source is the same net: a user's keeps its outputs, its wiring and its weights."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import engine.techniques  # noqa: F401  (fills the registry)
from engine.data import user
from engine.data.user_errors import UserError
from engine.file import intake, packfile
from engine.jobs import models
from engine.net import kinds, sources, zoo
from engine.recipe import technique
from engine.recipe.run import run
from engine.types import Arch, Bundle, Recipe, SlimscopeError

CODE = '''
import torch
from torch import nn

class Net(nn.Module):
    """A net with a buffer that is not saved, one of whole numbers that is, and a layer used twice."""
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(6, 8)
        self.act = nn.ReLU(inplace=True)
        self.again = nn.Linear(8, 8)
        self.out = nn.Linear(8, 3)
        self.register_buffer("place", torch.arange(8).flip(0))
        self.register_buffer("shift", torch.linspace(0, 1, 8), persistent=False)

    def forward(self, x):
        x = self.act(self.first(x))[:, self.place] + self.shift
        x = self.again(self.act(self.again(x)))
        return self.out(x)

def model():
    torch.manual_seed(1)
    return Net()

def data():
    torch.manual_seed(2)
    parts = []
    for n in (60, 30, 40):
        x = torch.randn(n, 6)
        parts.append(torch.utils.data.TensorDataset(x, x[:, :3].argmax(1)))
    return tuple(parts)
'''


@pytest.fixture
def named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file of the user's, named at the start; forgotten afterwards."""
    path = tmp_path / "brought.py"
    path.write_text(CODE)
    monkeypatch.setenv(user.VARIABLE, "")
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # two edits in one second
    user.name(f"{path}:model", f"{path}:data")
    yield path
    sources._nets.clear()
    user.forget()


def outputs(net: nn.Module, inputs: Tensor) -> Tensor:
    with torch.no_grad():
        return net.eval()(inputs)


def test_a_zoo_architecture_is_written_as_ever() -> None:
    arch = Arch("lenet-5").edit("split", layer="fc1", rank=2, form="linear")
    assert arch.data == ["lenet-5", [["split", {"layer": "fc1", "rank": 2, "form": "linear"}]]]
    assert Arch("lenet-5").key == '["lenet-5", []]'
    assert zoo.load("mlp-32").fingerprint == "331da98469bc88c4"


def test_a_config_is_part_of_the_key_and_comes_back() -> None:
    arch = Arch("user:a:b", (), {"code": "1"}).edit("split", layer="x", rank=1, form="linear")
    assert Arch.from_key(arch.key).data == arch.data == ["user:a:b", [list(arch.edits[0])], {"code": "1"}]
    assert arch.key != Arch("user:a:b", arch.edits, {"code": "2"}).key


def test_a_user_net_answers_as_it_did(named: Path) -> None:
    bundle = sources.load_user()
    import brought  # type: ignore[import-not-found]

    inputs = sources.data(bundle.arch).test.inputs()
    expected = outputs(brought.model(), inputs)
    assert torch.equal(outputs(zoo.build(bundle), inputs), expected)
    assert torch.equal(outputs(zoo.fork(bundle), inputs), expected)
    assert list(kinds.layer_macs(bundle)["layer"])[:1] == ["first"]


def test_what_is_compressed_is_packed_and_rebuilt(named: Path) -> None:
    bundle, data = sources.load_user(), sources.data(sources.load_user().arch)
    recipe = '[["low_rank",{"energy":0.8}],["finetune",{"epochs":1}],["quantize",{"bits":4}]]'
    after = run(bundle, technique.complete(Recipe.from_key(recipe)), data)[0]
    again = packfile.unpack(packfile.pack(after))
    assert again.fingerprint == after.fingerprint
    inputs = data.test.inputs()
    assert torch.equal(outputs(zoo.build(again), inputs), outputs(zoo.build(after), inputs))
    assert torch.equal(outputs(zoo.build(bundle), inputs), outputs(zoo.build(sources.load_user()), inputs))


def test_code_that_nobody_named_is_not_imported(named: Path, tmp_path: Path) -> None:
    (named.parent / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\ndef model(): ...\n")
    other = Arch("user:evil:model", (), {"code": "0" * 16})
    content = packfile.pack(sources.load_user().become(sources.load_user().params, other))
    with pytest.raises(intake.IntakeError, match="nobody named at the start"):
        intake.read(content, "evil.slim")
    with pytest.raises(UserError, match="nobody named"):
        user.task("evil:data")
    with pytest.raises(SlimscopeError, match="of no known source"):
        zoo.skeleton(Arch("hub:evil"))
    assert not (tmp_path / "ran").exists()
    assert "evil" not in sys.modules


def test_edited_code_is_read_again_and_old_weights_are_not_run_by_it(named: Path) -> None:
    before = sources.load_user()
    named.write_text(CODE.replace("self.shift\n", "self.shift  # a comment\n"))
    assert sources.reload_user().fingerprint == before.fingerprint
    named.write_text(CODE.replace("+ self.shift", "- self.shift"))
    after = sources.reload_user()
    assert after.arch.config != before.arch.config
    with pytest.raises(UserError, match="edited since"):
        zoo.build(before)
    with pytest.raises(SlimscopeError, match="edited since"):
        models.get_model(f"user-{before.fingerprint}")
    assert models.get_model(f"user-{after.fingerprint}").fingerprint == after.fingerprint


def test_a_job_in_an_older_process_reads_the_new_code(named: Path) -> None:
    sources.load_user()
    named.write_text(CODE.replace("manual_seed(1)", "manual_seed(3)"))
    told = os.environ[user.VARIABLE]
    new = sources.reload_user()
    named.write_text(CODE)
    sources.reload_user()
    named.write_text(CODE.replace("manual_seed(1)", "manual_seed(3)"))
    assert json.loads(told)["model"] == "brought:model"
    assert models.get_model(f"user-{new.fingerprint}").fingerprint == new.fingerprint


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("return Net()", "return 1 / 0"), r"brought\.py:\d+: ZeroDivisionError"),
        (("return Net()", "return 3"), "must return an nn.Module that Python runs, got int"),
        (("return Net()", "return torch.jit.ScriptModule()"), "that Python runs, got ScriptModule"),
        (("def model", "def other"), "has no 'model'"),
        (("import torch\n", "import torch\n)\n"), r"brought\.py:3: unmatched"),
        (("nn.Linear(6, 8)", "nn.LazyLinear(8)"), "has no numbers yet"),
    ],
)
def test_a_mistake_in_the_factory_is_said_with_its_line(
    named: Path, change: tuple[str, str], says: str
) -> None:
    named.write_text(CODE.replace(*change, 1))
    with pytest.raises(UserError, match=says):
        sources.reload_user()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("return tuple(parts)", "return parts[:2]"), "must be .train, validation, test., got a list of 2"),
        (("x[:, :3].argmax(1)", "x[:, 0]"), "not class numbers: name a --metric"),
        (("x = torch.randn(n, 6)", "x = torch.randn(n, n)"), "different shapes"),
        (("x = torch.randn(n, 6)", "x = torch.randn(n, 6) / 0"), "NaN or infinity"),
        (("return tuple(parts)", "return [[1], [2], [3]]"), "item 0 must be .input, target., got int"),
    ],
)
def test_a_mistake_in_the_data_is_said(named: Path, change: tuple[str, str], says: str) -> None:
    named.write_text(CODE.replace(*change, 1))
    with pytest.raises(UserError, match=says):
        sources.data(sources.reload_user().arch)


def test_outputs_that_are_no_scores_are_refused(named: Path) -> None:
    named.write_text(CODE.replace("return self.out(x)", "return self.out(x), x"))
    with pytest.raises(UserError, match="gives a tuple"):
        sources.reload_user()


@pytest.mark.parametrize("text", ["os.system", "a b:c", "nothing.py:model", "a:b:c", ":x", "a:b()"])
def test_a_name_that_is_none_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(user.VARIABLE, "")
    with pytest.raises(UserError):
        user.name(text)


def test_files_that_python_would_mistake_for_each_other_are_refused(named: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    for name in ("brought.py", "engine.py"):
        (tmp_path / "other" / name).write_text(CODE)
    with pytest.raises(UserError, match="have one name"):
        user.name(f"{named}:model", student=f"{tmp_path / 'other' / 'brought.py'}:model")
    with pytest.raises(UserError, match="another module 'engine'"):
        user.name(f"{tmp_path / 'other' / 'engine.py'}:model")


def test_settings_that_come_from_elsewhere_make_another_model(
    named: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = CODE.replace("nn.ReLU(inplace=True)", "nn.LeakyReLU(float(os.environ['SLOPE']))")
    named.write_text(f"import os\n{code}")
    monkeypatch.setenv("SLOPE", "0.1")
    before = sources.reload_user()
    monkeypatch.setenv("SLOPE", "0.2")
    after = sources.reload_user()
    assert before.arch.config["code"] == after.arch.config["code"]
    assert before.fingerprint != after.fingerprint
    with pytest.raises(UserError, match="the code and settings of brought:model are not those"):
        zoo.build(before)


def test_files_and_links_from_before_settings_counted_are_still_known(named: Path) -> None:
    now = sources.load_user()
    before = Bundle(Arch(now.arch.name, (), {"code": now.arch.config["code"]}), now.params)
    opened = intake.read(packfile.pack(before), "before.slim")[0]
    inputs = sources.data(now.arch).test.inputs()
    assert torch.equal(outputs(zoo.build(opened), inputs), outputs(zoo.build(now), inputs))
    assert models.get_model(f"user-{before.fingerprint}").fingerprint == before.fingerprint


def test_whoever_named_code_by_a_path_is_told_that_path(named: Path) -> None:
    told = user.named()
    assert told.model == "brought:model"
    assert told.options() == {"model": f"{named}:model", "data": f"{named}:data"}


@pytest.mark.parametrize(
    ("name", "says"),
    [
        (
            "mine:model",
            "; where you trust it, start slimscope with --model FOLDER/mine.py:model, FOLDER being",
        ),
        ("here:model", "; where you trust it, start slimscope with --model here:model"),
        ("shop.nets:model", "start slimscope in the folder that holds shop with --model shop.nets:model"),
        ("os:getcwd", ""),
        ("torch.hub:load", ""),
        ("given-0123456789abcdef", ""),
        ("a:b c", ""),
    ],
)
def test_only_what_can_be_a_users_is_advised(
    name: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here.py").write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(user.VARIABLE, "")
    with pytest.raises(UserError, match="code that nobody named at the start: it is not run") as error:
        sources.check(Arch(f"user:{name}"))
    assert says in str(error.value)
    assert bool(says) == ("--model" in str(error.value))


def test_code_that_wants_to_end_the_program_is_an_error_with_its_line(named: Path) -> None:
    named.write_text(CODE.replace("return self.out(x)", "raise SystemExit(3)"))
    with pytest.raises(UserError, match=r"brought\.py:\d+: SystemExit: 3"):
        sources.reload_user()
    named.write_text(f"import sys\nsys.exit(0)\n{CODE}")
    with pytest.raises(UserError, match=r"brought\.py:2: SystemExit: 0"):
        sources.reload_user()
