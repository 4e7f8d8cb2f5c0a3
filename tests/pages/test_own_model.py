"""A net of the user's own, opened by its code: the pages work on it, with its own accuracy."""

import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from html import escape
from pathlib import Path

import odd_models
import pytest
import torch
from safetensors.torch import save
from streamlit.testing.v1 import AppTest

from engine import cli
from engine.data import sets, user, user_errors, user_parts
from engine.figures import measure
from engine.file import packfile
from engine.jobs import recipes
from engine.net import sources, zoo
from engine.recipe import technique
from engine.recipe.run import run
from engine.types import Recipe
from pages.parts import cached, jobs, pictures

ROOT = Path(__file__).resolve().parent.parent.parent
EXAMPLE = "assets/examples/own_model.py"
MAILS = "assets/examples/spam_filter.py"
SOUND = "tests/own_models.py:convolutions_1_d"  # 80 test samples: another process answers for them
RECIPE = '[["prune_weights",{"sparsity":0.5}],["quantize",{"bits":6,"granularity":"channel"}]]'
pytestmark = pytest.mark.usefixtures("framed")


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has named any code yet; no job measures behind a test."""
    monkeypatch.setenv(user.VARIABLE, "")
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(jobs, "measure_all", lambda *args: None)


@pytest.fixture
def example(nobody: None) -> Iterator[str]:
    """The example as `slimscope app` names it."""
    yield from named(f"{EXAMPLE}:model", f"{EXAMPLE}:data", f"{EXAMPLE}:student")


@pytest.fixture
def spam_filter(nobody: None) -> Iterator[str]:
    """The example that reads mails."""
    yield from named(f"{MAILS}:model", f"{MAILS}:data", "")


def named(model: str, data: str, student: str) -> Iterator[str]:
    """The model's name in links."""
    user.name(model, data, student=student)
    cached.given.clear()
    yield f"user-{sources.load_user().fingerprint}"
    cached.given.clear()
    sources._nets.clear()
    user.forget()


def opened(page: str, **query: str) -> AppTest:
    at = AppTest.from_file(str(ROOT / "app.py"), default_timeout=120)
    for name, value in query.items():
        at.query_params[name] = value
    at.switch_page(f"pages/{page}.py").run()
    assert [f"{e.message}\n{''.join(e.stack_trace)}" for e in at.exception] == []
    return at


def html_of(at: AppTest) -> str:
    return "\n".join(part.proto.body for part in at.html)


def test_a_net_of_ones_own_on_bundled_texts_shows_and_takes_texts(spam_filter: str) -> None:
    at = opened("overview", m=spam_filter)
    data = sets.load("spam")
    bundle, test = sources.load_user(), data.test
    assert sources.data(bundle.arch).classes == data.classes
    assert measure.accuracy(bundle, test).value > 0.9
    assert f'<q class="sample">{escape(test.texts[0])}</q>' in html_of(at)
    text = "Congratulations! You have won $1,000,000. Click here now, this offer is free!"
    at = opened("prune", m=spam_filter, t='[["prune_weights",{"sparsity":0.3}]]')
    at.session_state["footer"] = "What changed"
    at.session_state[f"typed-{sources.data(bundle.arch).name}"] = text
    at.run()
    assert data.pieces is not None
    inputs = torch.tensor([data.pieces.padded(text, 128)])
    share = float(zoo.build(bundle)(inputs).softmax(1)[0, 1])
    assert share > 0.5
    assert re.search(rf">spam</td><td>.*?{100 * share:.2f} %</td>", html_of(at))


def test_a_task_of_slimscope_s_own_keeps_its_names_and_refuses_classes_without_one() -> None:
    mails = sets.load("spam")
    found, again = (user_parts.task_of(mails, "mails") for _ in range(2))
    assert (found.classes, found.pieces, found.test.texts) == (mails.classes, mails.pieces, mails.test.texts)
    renamed = user_parts.task_of(replace(mails, classes=("good", "bad")), "mails")
    assert found.name == again.name != renamed.name
    with pytest.raises(
        user_errors.UserError, match="mails: targets reach from 0 to 1: allowed are 0 to 0, the classes"
    ):
        user_parts.task_of(replace(mails, classes=("no spam",)), "mails")
    odd = replace(mails.train, labels=mails.train.labels - 1)
    with pytest.raises(user_errors.UserError, match="targets reach from -1 to 1"):
        user_parts.task_of(replace(mails, train=odd), "mails")

    def metric(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return (outputs.argmax(1) == targets).float()

    assert user_parts.task_of(replace(mails, metric=metric), "mails").metric is metric


@pytest.mark.parametrize(
    "page", ["overview", "prune", "quantize", "low_rank", "tradeoffs", "damage", "tickets"]
)
def test_pages_open_on_it_with_a_measured_accuracy(example: str, page: str) -> None:
    quick = {"t": '[["optimal_brain_damage",{"samples":50}]]'} if page == "damage" else {}
    at = opened(page, m=example, r=RECIPE, **quick)
    shows, focus = html_of(at), at.session_state["focus"]
    data = sources.data(sources.load_user().arch)
    kept = Recipe.from_key(RECIPE)
    alone = focus and focus not in [step.technique for step in kept]
    tried = at.session_state["work"].trials.get((example, focus))
    step = tried.step if tried else technique.step(focus) if focus else None
    shown = Recipe(() if page == "tickets" else (step,)) if alone else kept
    after = recipes.after(example, technique.complete(shown), f"user:{user.named().data}")
    assert not isinstance(after, recipes.Missing)
    bundle = sources.load_user()
    n = measure.sample_size(bundle)
    sample = data.test.stratified(n)
    expected = measure.accuracy(after[0], sample).value
    assert f'data-figure="accuracy" data-value="{expected!r}"' in shows
    assert example == cached.parts(cached.subject(example, ""))[0]


@pytest.mark.parametrize("page", ["overview", "prune"])
def test_outputs_that_are_no_numbers_have_no_accuracy(example: str, page: str) -> None:
    user.name(f"{odd_models.__file__}:normed", f"{odd_models.__file__}:vectors")
    broken = '[["prune_weights",{"sparsity":0.9}]]'
    at = opened(page, m=f"user-{sources.load_user().fingerprint}", r=broken)
    html = html_of(at)
    assert "outputs are not numbers for 40 of 40 samples: no accuracy is measured" in html
    assert 'data-figure="accuracy"' not in html
    assert not at.error


def test_a_few_test_samples_are_no_more_than_they_are(example: str) -> None:
    user.name(f"{odd_models.__file__}:normed", f"{odd_models.__file__}:vectors")
    html = html_of(opened("quantize", m=f"user-{sources.load_user().fingerprint}", r="[]"))
    assert "n = 40" in html
    assert "n = 10,000" not in html
    assert "a tie" not in html  # of so few nothing is settled


@pytest.mark.parametrize("page", ["filters", "channels"])
def test_pages_that_can_not_serve_it_do_not_break(example: str, page: str) -> None:
    opened(page, m=example, r="[]")


def test_distill_shows_the_teacher_and_names_the_student(example: str) -> None:
    at = opened("distill", m=example, r="[]")
    assert any("own_model:student" in caption.value for caption in at.caption)
    assert "True class" in "".join(caption.value for caption in at.caption)


def test_inputs_that_are_no_images_are_listed() -> None:
    found = sets.Samples(torch.zeros(5, 7), torch.zeros(5, dtype=torch.int64), (), ())
    html = pictures.samples(found, [(3, "says a", "wrong: b")])
    assert "Inputs of the shape 7 are no images" in html
    assert "sample 3: says a (wrong: b)" in html
    assert "<img" not in html


def test_the_app_opens_on_it_and_a_reload_keeps_it(example: str) -> None:
    at = opened("prune")
    assert (at.query_params["m"], at.query_params["r"]) == (example, "[]")
    at.button("reload").click().run()
    assert at.query_params["m"] == example
    assert not at.exception
    assert not at.error


def test_a_link_to_other_code_is_refused(example: str) -> None:
    at = opened("overview", m="user-0123456789abcdef")
    assert any("not started with" in warning.value for warning in at.warning)


def test_compress_takes_code_and_another_process_reads_its_file(
    example: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = {"model": f"{SOUND}", "data": f"{SOUND}_data", "student": f"{SOUND}_student"}
    code = [word for name, text in names.items() for word in (f"--{name}", text)]
    out = tmp_path / "own.slim"
    cli.main(("compress", *code, "--recipe", RECIPE, "--out", str(out)))
    assert "accuracy change" in capsys.readouterr().out
    bundle = packfile.unpack(out.read_bytes())
    assert bundle.arch.name == "user:own_models:convolutions_1_d"
    assert zoo.build(bundle).training is False
    original = sources.load_user()
    expected = run(original, Recipe.from_key(RECIPE), sources.data(original.arch))[0]
    assert out.read_bytes() == packfile.pack(expected)


def test_uploaded_weights_that_fit_are_measured_as_its_own_once_confirmed(
    example: str,
) -> None:
    """Not a net of the zoo, and not the weights that the factory gives."""
    state = {name: 0.5 * t if name == "out.weight" else t for name, t in sources.load_user().state().items()}
    state["hidden.weight"] = state["hidden.weight"].roll(1, 0)
    at = opened("overview", m=example, r="[]")
    at.file_uploader[0].set_value(("mine.safetensors", save(state), "application/octet-stream")).run()
    model = at.query_params["m"]
    assert model.startswith("file-")
    assert any("Is this file own_model:model?" in part.value for part in at.markdown)
    assert 'data-figure="accuracy"' not in html_of(at)
    at.button("proposal-yes").click().run()
    data = sources.data(sources.load_user().arch)
    assert at.query_params["d"] == sources.task(sources.load_user().arch)
    net = zoo.fork(sources.load_user()).eval()
    net.load_state_dict(state, strict=False)
    taken = recipes.after(model, Recipe(), at.query_params["d"])
    assert not isinstance(taken, recipes.Missing)
    sample = data.test.stratified(measure.sample_size(taken[0]))
    with torch.no_grad():
        right = float((net(sample.inputs()).argmax(1) == sample.labels).double().mean())
    assert f'data-figure="accuracy" data-value="{right!r}"' in html_of(at)
    assert any("You said: this is own_model:model." in info.value for info in at.info)
