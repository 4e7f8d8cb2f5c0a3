"""What every page has below its pictures: what changed, is it faster, how big is it, take it away."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from html import escape

import streamlit as st
from safetensors.torch import save as save_tensors

from engine.data import user
from engine.figures import latency, measure, theory
from engine.file import packfile, recognise
from engine.jobs import as_json, extras
from engine.net import zoo
from engine.recipe import script
from engine.types import Figure, SlimscopeError
from pages.parts import cached, figures, glossary, jobs, session, whole
from pages.parts.pictures import samples

SECTIONS = ("What changed", "Is it faster here?", "Size ledger", "Take it away", "Words")
SHOWN = 24  # flipped samples in the gallery


def footer(subject: str) -> None:
    """Tabs under the pictures; only the open one is worked out."""
    key = session.recipe().live.key
    if cached.is_bare_and_large(subject):
        return whole.section(subject, key)
    try:
        cached.counted(subject, key) if cached.is_large(subject) else cached.after(subject, key)
    except cached.Pending:
        return whole.pending(subject, key)
    except SlimscopeError:
        return
    tabs = st.tabs(list(SECTIONS), on_change="rerun", key="footer")
    for tab, draw in zip(tabs, (changed, faster, ledger, take_away, glossary.draw), strict=True):
        if tab.open:
            with tab:
                if draw in (changed, faster) and session.why_idle():
                    st.info(session.why_idle())
                else:
                    draw(subject, key)


def changed(subject: str, key: str) -> None:
    """Which samples flipped, and who pays: the change per class."""
    held = cached.images(subject)
    assert held is not None
    try:
        found = cached.answers_so_far(subject, key)
    except SlimscopeError as error:
        return st.info(f"Nothing to compare: {error}.")
    if found is None:
        return whole.pending(subject, key, "accuracy")
    sample, before, now = found
    n, truth = len(sample), sample.labels
    table = measure.flips(before, now, truth)
    counts = table["kind"].value_counts()
    lost, won, other = (int(counts.get(kind, 0)) for kind in ("lost", "won", "changed"))
    st.markdown(
        f"**{len(table):,} of {n:,} test samples get another answer**: {lost} were right and are wrong now, "
        f"{won} were wrong and are right now, {other} changed from one wrong answer to another."
    )
    left, right = st.columns([1.2, 1], gap="medium")
    names = cached.classes(subject)
    with left:
        if len(table):
            rows = table.sort_values("kind", key=lambda k: k.map({"lost": 0, "won": 1, "changed": 2})).head(
                SHOWN
            )
            st.html(
                samples(
                    sample,
                    (
                        (
                            r.sample,
                            f"{names[r.before]} > {names[r.after]}",
                            f"{r.kind}; true: {names[r.label]}",
                        )
                        for r in rows.itertuples()
                    ),
                )
            )
            if len(table) > SHOWN:
                st.caption(f"The first {SHOWN} of {len(table)}, lost ones first: answer before > answer now.")
        else:
            st.caption("No sample changed its answer.")
    with right:
        per = measure.per_class(before, now, truth, names)
        st.html(
            figures.table(
                per.sort_values("change"),
                {
                    "class": figures.Column("class"),
                    "n": figures.Column("n"),
                    "before": figures.Column("before", "share"),
                    "after": figures.Column("now", "share"),
                    "change": figures.Column("change in points", "points"),
                },
            )
        )


BATCHES = (1, 32)
AT_ONCE = 2.0  # seconds that a measurement may take without being asked for
# Of the seven columns: bars begin on one line, numbers are not broken, and the reason belongs to its form.
STYLES = ["border-bottom:0;text-align:left"] * 3 + ["border-bottom:0;white-space:nowrap"] * 4
COLOURS = {latency.TORCH: "#2f8fcf", latency.ONNX: "#009e73"}


def faster(subject: str, key: str) -> None:
    """Measured time of every form of this net beside the original, and one sentence each why."""
    batch = st.segmented_control(
        "Images at once (batch)",
        BATCHES,
        default=BATCHES[0],
        required=True,
        key="latency-batch",
        help="One image alone is what a person waits for; with 32, each weight that is read is used 32 times.",
    )
    if cached.is_large(subject):
        return _timed_by_job(subject, key, batch)
    wanted = (subject, key, batch)
    takes = cached.latency_takes(*wanted)
    if takes.value > AT_ONCE and st.session_state.get("latency-wanted") != wanted:
        st.markdown("Each form runs many times, in turns with the others. With this net that takes a while.")
        label = f"Measure (about {takes.value:.0f} s)"
        st.button(label, on_click=_want, args=wanted, key="measure", icon=":material/timer:")
        return
    with st.spinner("Timing all forms in turns ..."):
        rows = cached.latency(*wanted)
    _show_forms(rows)
    again = {"on_click": cached.latency.clear, "args": wanted}
    st.button("Measure again", key="measure-again", icon=":material/refresh:", **again)


def _timed_by_job(subject: str, key: str, batch: int) -> None:
    """The same of a large model: its forms run too long for a page to wait."""
    job = jobs.about(session.owner(), "latency", subject, key, batch=batch)
    if job is not None and job.result is not None:
        _show_forms(extras.rows_of(job.result))
    if job is not None and not job.over:
        return jobs.watch(job.id, lambda _: None)
    st.button(
        "Measure in the background" if job is None else "Measure again",
        on_click=jobs.submit,
        args=("latency", "Latency of all forms"),
        kwargs={"recipe": key, "batch": batch},
        key="measure",
        icon=":material/timer:",
    )


def _show_forms(rows: Sequence[latency.Row]) -> None:
    st.html(_forms(rows))
    how = next(row.time.how for row in rows if row.time)
    st.caption(
        f"Time is the {how}. Times as fast: against the original in the same runtime, in the same rounds. Only forms "
        "that answer as the net itself does are timed. Measured on the processor of the machine that serves this page."
    )


def _want(*wanted: object) -> None:
    st.session_state["latency-wanted"] = wanted


def _forms(rows: Sequence[latency.Row]) -> str:
    """Two table rows for each form: its numbers with a bar for the time, and the reason."""
    longest = max(row.time.value for row in rows if row.time)
    titles = ("form", "runtime", "", "time", "quartiles in ms", "times as fast", "size")
    head = "".join(
        f'<th style="text-align:{"left" if i < 3 else "right"}">{t}</th>' for i, t in enumerate(titles)
    )
    body = "".join(_form(row, longest) for row in rows)
    return f'<div class="scroll"><table class="slim-table"><tr>{head}</tr>{body}</table></div>'


def _form(row: latency.Row, longest: float) -> str:
    if row.time is None:
        cells, mark = ["", "not timed", "", "", ""], ""
    else:
        width, ends = 80 * row.time.value / longest, row.time.spread or ()
        cells = [
            f'<span class="bar" style="width:{width:.1f}px;background:{COLOURS[row.runtime]}"></span>',
            _cell(row.time),
            " to ".join(f"{end:.3f}" for end in ends),
            _cell(row.speed_up) if row.speed_up else "reference",
            _cell(row.size) if row.size else "",
        ]
        mark = f' data-figure="latency" data-value="{row.time.value!r}"'
    named = [f"<b>{escape(row.form)}</b>", escape(row.runtime), *cells]
    line = "".join(f'<td style="{style}">{cell}</td>' for style, cell in zip(STYLES, named, strict=True))
    why = f'<td class="text" style="max-width:none;padding-top:0" colspan="7">{escape(row.why)}</td>'
    return f"<tr{mark}>{line}</tr><tr data-why>{why}</tr>"


def _cell(figure: Figure) -> str:
    """The value; pointing at it says how it was obtained."""
    how = escape(f"{figure.basis}: {figure.how}", quote=True)
    return f'<span title="{how}">{escape(figures.text(figure.value, figure.unit))}</span>'


def ledger(subject: str, key: str) -> None:
    """Every way to count the size: why the literature's ratios can't be compared."""
    if cached.is_large(subject):
        job = jobs.about(session.owner(), "ledger", subject, key)
        if job is None or job.result is None:
            jobs.ensure(session.owner(), "ledger", "Size ledger", subject, key)
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
    name, held = cached.parts(subject)[0], cached.images(subject)
    scale = (held.test.mean, held.test.std) if held and "@" in session.scaling() else ((), ())
    arch = cached.original(subject).arch
    take_for = ""
    if held and name.startswith("file-"):
        take_for = arch.name if arch.source == "zoo" else recognise.OWN
    steps = session.recipe().live  # a download is served outside of any session
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
    recipe = session.brief(steps).key
    source = _named(name, take_for)
    told = f" --take-for {take_for}" if take_for not in ("", recognise.OWN) else ""
    told += "".join(f" --{word}={_listed(n)}" for word, n in zip(("mean", "std"), scale, strict=True) if n)
    st.code(
        f"slimscope compress {source}{told} --recipe '{recipe}' --out {name}.slim",
        language="sh",
        wrap_lines=True,
    )


def _listed(numbers: tuple[float, ...]) -> str:
    return ",".join(f"{number:g}" for number in numbers)
