// A point on a chart that can be dragged both ways, over whole numbers. A mark of kind "dot" with `full` (the largest
// numbers, upwards and to the right), a `layer` and `tables` (two settings that are tables of layers) is such a point:
// where it is dragged to becomes the layer's own numbers in the panel, so that server and pictures follow.
import { lay, make, plotOf } from "./chart.js"

const REACH = 16 // px around the point where it can be taken hold of
const point = (window.slimscopePoint ??= { held: null })

const markOf = chart => window.slimscopeStage?.marks[chart]?.find(one => one.kind === "dot" && one.full)
const panel = () => window.slimscopePanels?.[window.slimscopeStage.ask?.name]

function draw(chart) {
  const plot = plotOf(chart), layout = plot?._fullLayout, mark = markOf(chart)
  let svg = plot?.querySelector(":scope > svg.point")
  if (!layout?._size) return
  if (!mark) return svg?.remove()
  svg ??= made(plot, chart)
  const size = layout._size
  lay(svg, size, { overflow: "visible", zIndex: 3 })
  svg.firstChild.setAttribute("cx", layout.xaxis.l2p(mark.x))
  svg.firstChild.setAttribute("cy", layout.yaxis.l2p(mark.y))
}

function made(plot, chart) {
  const svg = make("svg", { class: "point", "aria-hidden": "true" }, plot) // the panel's tables do the same by keyboard
  const grip = make("circle", { r: REACH, fill: "transparent" }, svg)
  Object.assign(grip.style, { pointerEvents: "all", cursor: "move", touchAction: "none" })
  grip.onpointerdown = event => {
    event.preventDefault()
    event.stopPropagation()
    grip.setPointerCapture(event.pointerId)
    point.held = chart
    panel().held = true
  }
  grip.onpointermove = event => {
    if (point.held !== chart) return
    const { left, top } = svg.getBoundingClientRect(), { xaxis, yaxis } = plot._fullLayout
    move(chart, xaxis.p2l(event.clientX - left), yaxis.p2l(event.clientY - top))
  }
  grip.onpointerup = grip.onpointercancel = () => {
    point.held = null
    panel().held = false
  }
  return svg
}

function move(chart, x, y) {
  const stage = window.slimscopeStage, mark = markOf(chart), { settings } = panel(), { layer, tables, full } = mark
  const [up, right] = [y, x].map((value, i) => Math.min(full[i], Math.max(1, Math.round(value))))
  if (up === mark.y && right === mark.x) return
  const moved = { ...mark, x: right, y: up, text: `ranks ${up} and ${right}` }
  stage.marks = { ...stage.marks, [chart]: stage.marks[chart].map(one => one === mark ? moved : one) }
  stage.draw(chart)
  // While the point is held, answers about where it was do not move it back.
  stage.ask.controls[tables[0]] = { stops: [], ahead: { marks: [{ [chart]: [] }] } }
  panel().change(Object.fromEntries(tables.map((table, i) => [table, { ...settings[table], [layer]: [up, right][i] }])))
}

export default function () {
  if (!point.listening) document.addEventListener("slimscope-marks", ({ detail }) => draw(detail))
  point.listening = true
  for (const chart of Object.keys(window.slimscopeStage?.marks ?? {})) draw(chart)
}
