// A handle on a chart. A mark of kind "handle" says where it stands (at), where it may go (xs), and which settings each
// of those places stands for: dragging it edits the panel, so that slider, pictures and server follow as for any edit.
import { lay, make, plotOf } from "./chart.js"

const WIDE = 24 // px around the line that can be taken hold of
const handle = (window.slimscopeHandle ??= { held: null, places: {} })

export const nearest = (xs, value) =>
  xs.reduce((best, x, i) => Math.abs(x - value) < Math.abs(xs[best] - value) ? i : best, 0)

// The places of a handle stay while only its own place is known anew.
function markOf(chart) {
  const mark = window.slimscopeStage?.marks[chart]?.find(one => one.kind === "handle")
  if (mark?.xs) handle.places[chart] = { xs: mark.xs, settings: mark.settings }
  return mark && handle.places[chart] ? { ...handle.places[chart], ...mark } : null
}

function draw(chart) {
  const plot = plotOf(chart), layout = plot?._fullLayout, mark = markOf(chart)
  let svg = plot?.querySelector(":scope > svg.handle")
  if (!layout?._size) return
  if (!mark) return svg?.remove()
  svg ??= made(plot, chart)
  const size = layout._size, mine = handle.held?.chart === chart ? handle.held : null
  lay(svg, size, { overflow: "visible", zIndex: 3 })
  const [grip, line, knob] = svg.children, x = layout.xaxis.l2p(layout.xaxis.d2l(mine ? mark.xs[mine.place] : mark.at))
  const set = (node, attributes) => Object.entries(attributes).forEach(([name, value]) => node.setAttribute(name, value))
  set(grip, { x: x - WIDE / 2, y: -8, width: WIDE, height: size.h + 16 })
  set(line, { x1: x, x2: x, y1: 0, y2: size.h, stroke: mark.colour, opacity: mine ? 1 : 0 })
  set(knob, { d: `M${x - 6} ${size.h - 13}h12v7l-6 6l-6 -6z`, fill: mark.colour })
}

function made(plot, chart) {
  const svg = make("svg", { class: "handle", "aria-hidden": "true" }, plot) // the panel's controls do the same by keyboard
  const grip = make("rect", { fill: "transparent" }, svg)
  make("line", { "stroke-width": 2 }, svg)
  make("path", { stroke: "var(--halo)", "stroke-width": 1.5 }, svg)
  Object.assign(grip.style, { pointerEvents: "all", cursor: "ew-resize", touchAction: "none" })
  grip.onpointerdown = event => {
    event.preventDefault()
    event.stopPropagation()
    grip.setPointerCapture(event.pointerId)
    handle.held = { chart, place: nearest(markOf(chart).xs, markOf(chart).at) }
    panel().held = true
  }
  grip.onpointermove = event => handle.held?.chart === chart && move(chart, event.clientX - svg.getBoundingClientRect().left)
  grip.onpointerup = grip.onpointercancel = () => {
    if (!handle.held) return
    handle.held = null
    panel().held = false
    draw(chart)
  }
  return svg
}

const panel = () => window.slimscopePanels?.[window.slimscopeStage.ask?.name]

function move(chart, at) {
  const mark = markOf(chart), axis = plotOf(chart)._fullLayout.xaxis
  const place = nearest(mark.xs, axis.p2c(at))
  if (place === handle.held.place) return
  handle.held.place = place
  panel().change(mark.settings[place])
  draw(chart)
}

export default function () {
  if (!handle.listening) document.addEventListener("slimscope-marks", ({ detail }) => draw(detail))
  handle.listening = true
  for (const chart of Object.keys(window.slimscopeStage?.marks ?? {})) draw(chart)
}
