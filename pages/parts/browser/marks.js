// Marks over Plotly charts, which are drawn once; and the state of what moves with a slider (stage.js).
import { lay, make, plotOf } from "./chart.js"

export const stage = (window.slimscopeStage ??= {
  ask: null, key: null, marks: {}, html: {}, tiles: {}, pending: [], left: [], known: new Map(), way: 1,
})

export function draw(chart) {
  document.dispatchEvent(new CustomEvent("slimscope-marks", { detail: chart }))
  const plot = plotOf(chart)
  const layout = plot && plot._fullLayout
  if (!layout || !layout._size || !layout.xaxis) return false
  if (plot.dataset.marks !== chart) {
    plot.dataset.marks = chart
    plot.on("plotly_afterplot", () => draw(chart))
    plot.style.position = "relative"
  }
  plot.querySelector(":scope > svg.marks")?.remove()
  const size = layout._size
  const svg = make("svg", { class: "marks", "aria-hidden": "true" }, plot)
  lay(svg, size, { overflow: "hidden", zIndex: 2 })
  const x = v => layout.xaxis.l2p(layout.xaxis.d2l(v))
  const y = v => layout.yaxis.l2p(layout.yaxis.d2l(v))
  const path = (xs, ys) => xs.map((v, i) => `${i ? "L" : "M"}${x(v).toFixed(1)} ${y(ys[i]).toFixed(1)}`).join("")
  const label = (text, at, top, colour) => {
    const node = make("text", { y: top, fill: colour, "font-size": 12, "font-weight": 600,
      "font-family": "Source Sans, sans-serif", stroke: "var(--halo)", "stroke-width": 3, "paint-order": "stroke" }, svg)
    node.textContent = text
    const wide = node.getComputedTextLength()
    const room = at + 6 + wide <= size.w ? at + 6 : at - 6 - wide // right of the mark, else left of it
    node.setAttribute("x", Math.max(2, Math.min(room, size.w - wide - 2)))
  }
  say(chart)
  for (const mark of stage.marks[chart] || []) {
    const colour = mark.colour
    if (mark.kind === "band") {
      const left = Math.max(0, x(mark.from)), right = Math.min(size.w, x(mark.to))
      make("rect", { x: left, y: 0, width: Math.max(0, right - left), height: size.h, fill: colour, opacity: 0.22 }, svg)
      for (const edge of [left, right])
        make("line", { x1: edge, x2: edge, y1: 0, y2: size.h, stroke: colour, "stroke-width": 1.5 }, svg)
      if (mark.text) label(mark.text, right, 16, colour)
    } else if (mark.kind === "line") {
      const at = x(mark.at)
      make("line", { x1: at, x2: at, y1: 0, y2: size.h, stroke: colour, "stroke-width": 2, "stroke-dasharray": mark.dash || "" }, svg)
      if (mark.text) label(mark.text, at, mark.top || 16, colour)
    } else if (mark.kind === "bars") {
      const d = mark.at.map((v, i) => `M${x(v - mark.wide / 2).toFixed(1)} ${size.h}V${y(mark.heights[i]).toFixed(1)}H${x(v + mark.wide / 2).toFixed(1)}V${size.h}Z`).join("")
      make("path", { d, stroke: colour, "stroke-width": 1, fill: colour, "fill-opacity": 0.45 }, svg)
    } else if (mark.kind === "levels") {
      const d = mark.at.map(v => `M${x(v).toFixed(1)} 0V${size.h}`).join("")
      make("path", { d, stroke: colour, "stroke-width": 1, opacity: 0.35, fill: "none" }, svg)
    } else if (mark.kind === "sticks") {
      const top = Math.max(...mark.heights, 1e-12)
      const d = mark.at.map((v, i) => `M${x(v).toFixed(1)} ${size.h}V${(size.h * (1 - 0.92 * mark.heights[i] / top)).toFixed(1)}`).join("")
      make("path", { d, stroke: colour, "stroke-width": Math.max(1.2, Math.min(6, size.w / mark.at.length / 3)), fill: "none", opacity: 0.85 }, svg)
    } else if (mark.kind === "path") {
      make("path", { d: path(mark.xs, mark.ys), stroke: colour, "stroke-width": 2, fill: mark.fill ? colour : "none",
        "fill-opacity": 0.25 }, svg)
      mark.texts?.forEach((text, i) => {
        const point = make("circle", { cx: x(mark.xs[i]), cy: y(mark.ys[i]), r: 3.5, fill: colour, "pointer-events": "all" }, svg)
        make("title", {}, point).textContent = text
      })
    } else if (mark.kind === "dot") {
      const look = mark.hollow ? { r: 5, fill: "none", stroke: colour } : { r: 6, fill: colour, stroke: "var(--halo)" }
      make("circle", { cx: x(mark.x), cy: y(mark.y), "stroke-width": 2, ...look }, svg)
      if (mark.text) label(mark.text, x(mark.x) + 4, mark.below ? Math.min(size.h - 4, y(mark.y) + 22) : Math.max(14, y(mark.y) - 14), colour)
    }
  }
  return true
}

// The chart's text alternative, with what its marks say now.
function say(chart) {
  const figure = document.querySelector(`.st-key-${chart} [role=figure]`), words = (stage.marks[chart] || []).flatMap(mark => mark.text ?? [])
  if (!figure || chart === "size-curve") return // curve.js says more
  figure.dataset.alt ??= figure.getAttribute("aria-label")
  if (words.length) figure.setAttribute("aria-label", [figure.dataset.alt, ...words].join(". "))
}
