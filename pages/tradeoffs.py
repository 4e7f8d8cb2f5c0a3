"""Trade-offs: which settings are worth their bytes?"""

import pandas as pd
import streamlit as st

from engine.recipe import sweep, technique
from engine.recipe.knobs import Choice, Slider
from engine.types import Recipe
from pages.parts import cached, charts, footer, frame, jobs, session, visitor

PAGE = {
    "title": "Trade-offs",
    "icon": "query_stats",
    "about": "Accuracy against real bytes for many settings at once.",
    "order": 1000,
    "group": "Decide",
}

HOW_MANY = 8


def values_of(knob: Slider | Choice, low: float, high: float, count: int) -> list[object]:
    """About `count` of the control's own stops between low and high, ends included."""
    stops = [v for v in knob.stops(cached.original(session.subject())) if low <= v <= high]
    places = sorted({round(i * (len(stops) - 1) / max(count - 1, 1)) for i in range(count)})
    return [stops[i] for i in places]


def words(row: dict[str, object], names: list[str]) -> str:
    """What a point of the chart says when the mouse is over it."""
    said = "<br>".join(
        f"{n.replace('_', ' ')} {row[n]}"
        for n in names
        if row.get(n) == row.get(n) and row.get(n) is not None
    )
    return (
        f"{said or 'the original'}<br>{row['bytes']:,.0f} bytes, accuracy {100 * row['accuracy']:.2f} % "
        f"({100 * row['low']:.2f} to {100 * row['high']:.2f}, n = {row['n']:,.0f})"
    )


frame.heading(
    "Trade-offs",
    "Which settings are worth their bytes? **Pale points are beaten by another that is smaller and no less accurate.**",
    "One setting, many values: each point is a real compressed file and a measured accuracy with its interval. "
    "Click a point to load its recipe.",
)
subject, recipe = session.subject(), session.recipe()
frame.header(subject)
left, right = st.columns([1, 2.6], gap="medium")
with left:
    live = [(i, s) for i, s in enumerate(recipe, 1) if s.on]
    if visitor.why_idle():
        st.info(visitor.why_idle())
        st.stop()
    if not live:
        st.info("The recipe is empty. Add a step on another page, or start with pruning.")
        st.button(
            "Start with pruning", on_click=session.put, args=(Recipe((technique.step("prune_weights"),)),)
        )
        st.stop()
    titles = {i: f"{i}. {technique.get(s.technique).title}" for i, s in live}
    number = st.selectbox(
        "Step to vary",
        list(titles),
        format_func=titles.get,
        key="sweep-step",
        help="The other steps stay as they are.",
    )
    step = recipe.steps[number - 1]
    known = technique.get(step.technique)
    sliders = {
        n: k
        for n, k in known.knobs.items()
        if isinstance(k, Slider) and n != "seed" and k.matters(step.settings)
    }
    choices = {n: k for n, k in known.knobs.items() if isinstance(k, Choice) and k.matters(step.settings)}
    if not sliders and not choices:
        st.info(f"{known.title} has no setting to vary as it stands: choose another step.")
        st.stop()
    chosen = st.multiselect(
        "Settings to vary",
        [*sliders, *choices],
        [*sliders, *choices][:1],
        max_selections=2,
        key=f"vary-{step.technique}",
        format_func=lambda n: known.knobs[n].label or n,
        help="One or two; two give every pair.",
    )
    vary: dict[str, list[object]] = {}
    for name in chosen:
        knob = known.knobs[name]
        if isinstance(knob, Choice):
            vary[name] = list(knob.options)
            continue
        stops = knob.stops(cached.original(subject))
        low, high = st.select_slider(
            knob.label or name,
            stops,
            (stops[0], stops[-1]),
            key=f"range-{step.technique}-{name}",
            help=knob.help,
        )
        count = st.number_input(
            f"Values of {(knob.label or name).lower()}", 2, 40, HOW_MANY, key=f"count-{step.technique}-{name}"
        )
        vary[name] = values_of(knob, low, high, int(count))
    total = 1
    for values in vary.values():
        total *= len(values)
    payload = {"recipe": recipe.key, "step": number, "vary": vary}
    job = jobs.latest("sweep")
    same = job is not None and all(job.payload.get(k) == v for k, v in payload.items())
    st.button(
        f"Run {total} recipes",
        type="primary",
        key="run-sweep",
        disabled=not vary or (job is not None and job.open),
        on_click=jobs.submit,
        args=("sweep", f"Sweep of {', '.join(vary)}"),
        kwargs=payload,
        icon=":material/play_arrow:",
    )
    if job is not None and not same:
        st.caption("The chart shows the last sweep; the settings on the left have changed since.")

with right:
    if job is None:
        st.info(
            "Nothing has been swept yet: press Run. Points appear as they are measured, and stay if you cancel.",
            icon=":material/query_stats:",
        )
    else:
        names = list(job.payload["vary"])

        def drawn(now: jobs.Job) -> None:
            rows = pd.DataFrame([dict(row) for row in now.series])
            if rows.empty:
                st.caption("The first point is on its way.")
                return
            table = sweep.table(rows.to_dict("records"))
            points = table[table["accuracy"].notna()].reset_index(drop=True)
            hover = [words(row, names) for row in points.to_dict("records")]
            figure = charts.tradeoff(points, hover)
            event = st.plotly_chart(
                figure,
                key="tradeoff",
                on_select="rerun",
                selection_mode="points",
                config={
                    "toImageButtonOptions": {"format": "png", "scale": 2, "filename": "slimscope-tradeoffs"},
                    "displaylogo": False,
                },
                alt="Accuracy against file size, one point per recipe",
            )
            picked = event.selection.points if event else []
            clicked = bool(picked) and "customdata" in picked[0]
            session.load_clicked(points.loc[int(first(picked[0]["customdata"])), "recipe"] if clicked else "")
            export(table, figure)
            with st.expander("The same as a table", expanded=False):
                st.dataframe(table, hide_index=True, key="sweep-table")

        def first(value: object) -> float:
            return float(value[0] if isinstance(value, list | tuple) else value)

        def export(table: pd.DataFrame, figure: charts.Chart) -> None:
            csv, html, hint = st.columns(3)
            csv.download_button(
                "CSV",
                lambda: table.to_csv(index=False),
                "slimscope-tradeoffs.csv",
                "text/csv",
                on_click="ignore",
                width="stretch",
                key="get-csv",
            )
            html.download_button(
                "HTML",
                lambda: charts.standalone(figure),
                "slimscope-tradeoffs.html",
                "text/html",
                on_click="ignore",
                width="stretch",
                key="get-html",
                help="One file that opens without a network",
            )
            hint.caption("PNG: the camera at the chart's upper right.")

        jobs.watch(job.id, drawn)
footer.draw(footer.tabs("More"), subject)
jobs.wake()
