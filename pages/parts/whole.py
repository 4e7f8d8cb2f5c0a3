"""A large model as a whole: its file is written by a job, layer by layer; then its size is known."""

from __future__ import annotations

import streamlit as st

from engine.types import Recipe, SlimscopeError
from pages.parts import cached, figures, jobs, link, view, visitor


def section(subject: str, key: str) -> None:
    """A button that writes the file, its progress, and then its size and a download."""
    st.subheader("The whole model", anchor=False)
    found = cached.written(subject, key)
    job = jobs.latest("write", recipe=key)
    if found is None:
        st.markdown(
            "The pictures follow the sliders layer by layer. **The file's size and its zeros are known once the "
            "recipe has gone over all layers**: the file is written tensor by tensor, read back and compared."
        )
        if job is None or job.over:
            st.button(
                "Write the file",
                type="primary",
                key="write",
                on_click=jobs.submit,
                args=("write", "Writing the file"),
                kwargs={"recipe": key},
                icon=":material/save:",
                disabled=not Recipe.from_key(key).steps,
            )
        if job is not None:
            jobs.watch(job.id, lambda _: None)
    else:
        _take_away(subject, key)


def pending(subject: str, key: str, kind: str = "write") -> None:
    """What a job works out of a large model that runs: where its progress is seen, or how it ended."""
    job = jobs.about(visitor.owner(), kind, subject, key)
    st.caption(
        "The whole model is worked out in the background (Jobs, in the sidebar): what is said of it here follows."
    )
    if job is not None and not job.open:
        jobs.progress(job, "footer")


def _take_away(subject: str, key: str) -> None:
    found = cached.written(subject, key)
    if found is None:
        raise SlimscopeError("the file is gone: write it again")
    told, _, path = found
    name = cached.parts(subject)[0]
    st.html(figures.tiles([figures.Tile(figures.titled(f.name), f, f.how) for f in told.values()]))
    st.download_button(
        "Packed file (.slim)",
        path.read_bytes,
        f"{name}.slim",
        on_click="ignore",
        icon=":material/package_2:",
        key="get-slim",
    )
    st.caption("Every byte is in it: header, scales, biases. `slimscope inspect` reads it.")
    recipe = link.brief(view.now().live).key
    st.code(f"slimscope compress FILE --recipe '{recipe}' --out net.slim", language="sh", wrap_lines=True)
