"""Ship it: every way to count the size, the file to take away, and the commands that make it again."""

from __future__ import annotations

import shlex

import streamlit as st
from safetensors.torch import save as save_tensors

from engine.data import user
from engine.figures import theory
from engine.file import packfile, recognise
from engine.jobs import as_json
from engine.net import zoo
from engine.recipe import script
from engine.types import Recipe
from pages.parts import cached, figures, jobs, link, view, visitor, whole


def ledger(subject: str, key: str) -> None:
    """Every way to count the size: why the literature's ratios can't be compared."""
    if cached.is_large(subject):
        job = jobs.about(visitor.owner(), "ledger", subject, key)
        if job is None or job.result is None:
            jobs.ensure(visitor.owner(), "ledger", "Size ledger", subject, key)
            return whole.pending(subject, key, "ledger")
        rows = [as_json.figure_of(figure) for figure in job.result["figures"]]
    else:
        rows = cached.ledger(subject, key)
    st.html(figures.ledger(rows, cached.dense_bytes(subject).value))
    st.caption(
        "KB is 1,000 bytes. Ratios are against the original as a dense 32-bit file. The last row is the file "
        "that you can download below; every byte is in it: header, scales, biases, batch-norm."
    )


def _named(model: str, take_for: str) -> str:
    """How a command line names a model."""
    if model in zoo.ENTRIES:
        return model
    told = user.named()
    is_own = model.startswith("user-")
    if told.file or not (is_own or take_for == recognise.OWN):
        return "FILE"
    said = " ".join(f"--{name} {shlex.quote(code)}" for name, code in told.options().items())
    return f"{'' if is_own else 'FILE '}{said}"


def take_away(subject: str, key: str) -> None:
    """The packed file, dense weights, and a script that gives the same result."""
    bundle = cached.after(subject, key)[0]
    name, scale, take_for = origin(subject)
    steps = view.now().live  # a download is served outside of any session
    packed, dense, text = st.columns(3)
    packed.download_button(
        "Packed file (.slim)",
        lambda: packfile.pack(bundle),
        f"{name}.slim",
        on_click="ignore",
        icon=":material/package_2:",
        width="stretch",
        key="get-slim",
    )
    packed.caption(
        f"{figures.text(cached.size(subject, key).value, 'bytes')}, measured; `slimscope inspect` reads it."
    )
    dense.download_button(
        "Dense weights (.safetensors)",
        lambda: save_tensors(bundle.decoded()),
        f"{name}.safetensors",
        on_click="ignore",
        icon=":material/grid_on:",
        width="stretch",
        key="get-dense",
    )
    size = figures.text(theory.dense_file(bundle).value, "B")
    dense.caption(
        f"{size}, counted: the decoded 32-bit weights, for any PyTorch code. A zero takes 4 bytes, too."
    )
    text.download_button(
        "Script (.py)",
        lambda: script.script(name, steps, *scale, take_for),
        f"{name}.py",
        on_click="ignore",
        icon=":material/code:",
        width="stretch",
        key="get-script",
    )
    text.caption("Python that makes the same file again.")
    st.markdown("**The same from the command line**:")
    st.code(command(subject, steps), language="sh", wrap_lines=True)


def command(subject: str, steps: Recipe, verb: str = "compress", kind: str = "out", end: str = "slim") -> str:
    """The command that makes the file of a recipe: packed, or with other words another one."""
    name, scale, take_for = origin(subject)
    told = f" --take-for {take_for}" if take_for not in ("", recognise.OWN) else ""
    told += "".join(f" --{word}={_listed(n)}" for word, n in zip(("mean", "std"), scale, strict=True) if n)
    recipe = link.brief(steps).key
    return f"slimscope {verb} {_named(name, take_for)}{told} --recipe '{recipe}' --{kind} {name}.{end}"


def origin(subject: str) -> tuple[str, tuple[tuple[float, ...], tuple[float, ...]], str]:
    """The model's name, its own mean and deviation of inputs, and what its file is taken for."""
    name, held = cached.parts(subject)[0], cached.images(subject)
    scale = (held.test.mean, held.test.std) if held and "@" in visitor.scaling() else ((), ())
    arch = cached.original(subject).arch
    if not (held and name.startswith("file-")):
        return name, scale, ""
    return name, scale, arch.name if arch.source == "zoo" else recognise.OWN


def _listed(numbers: tuple[float, ...]) -> str:
    return ",".join(f"{number:g}" for number in numbers)
