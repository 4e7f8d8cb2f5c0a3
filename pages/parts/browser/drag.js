// Handles at the foot of a chart's levels: one that is dragged moves its level at once, the server is asked for
// what follows (stage.js), and where it is dropped goes into the recipe.
import { lay, make, plotOf } from "./chart.js"

const GRIP = 20 // px from the foot of the chart where a press takes the nearest handle
const drag = (window.slimscopeDrag ??= { data: null, drop: null, held: null, turn: 0 })

const levelsOf = chart => window.slimscopeStage?.marks[chart]?.find(mark => mark.kind === "levels" && mark.entries)
const text = value => value.toPrecision(4)

function draw() {
  const { chart } = drag.data ?? {}, plot = chart && plotOf(chart), layout = plot?._fullLayout, levels = levelsOf(chart)
  plot?.querySelectorAll(":scope > svg.handles").forEach(old => { if (!drag.held || old !== drag.svg) old.remove() })
  if (!layout?._size || !levels) return
  const size = layout._size, kept = drag.held && drag.svg?.isConnected
  const svg = kept ? drag.svg : make("svg", { class: "handles" }, plot)
  drag.svg = svg
  lay(svg, size, { overflow: "visible", zIndex: 3 })
  if (!kept) listen(make("rect", { class: "grip", x: 0, y: size.h - GRIP, width: size.w, height: GRIP + 8, fill: "transparent" }, svg))
  svg.querySelectorAll("path, text").forEach(old => old.remove())
  const x = v => layout.xaxis.l2p(layout.xaxis.d2l(v)), wide = Math.max(2.5, Math.min(7, size.w / levels.at.length / 2.2))
  levels.at.forEach((value, entry) => {
    const at = x(value), mine = levels.hand.includes(entry) || drag.held?.entry === entry
    make("path", { d: `M${at} ${size.h - 1.6 * wide}l${wide} ${1.6 * wide}h${-2 * wide}z`, fill: mine ? "#d55e00" : levels.colour,
      stroke: "var(--halo)", "stroke-width": 1 }, svg)
  })
  if (drag.held) {
    const said = make("text", { "text-anchor": "middle", x: Math.min(Math.max(x(levels.at[drag.held.entry]), 60), size.w - 60), y: size.h - GRIP - 4, "font-size": 12,
      "font-weight": 600, fill: "#d55e00", stroke: "var(--halo)", "stroke-width": 3, "paint-order": "stroke" }, svg)
    said.textContent = `entry ${drag.held.entry}: ${text(levels.at[drag.held.entry])}`
  }
}

function listen(grip) {
  const { chart } = drag.data
  Object.assign(grip.style, { pointerEvents: "all", cursor: "ew-resize", touchAction: "none" })
  const place = event => event.clientX - grip.getBoundingClientRect().left
  const nearest = at => {
    const axis = plotOf(chart)._fullLayout.xaxis, { at: values } = levelsOf(chart)
    const away = values.map(v => Math.abs(axis.l2p(axis.d2l(v)) - at))
    return away.indexOf(Math.min(...away))
  }
  grip.onpointerdown = event => {
    event.preventDefault()
    event.stopPropagation()
    grip.setPointerCapture(event.pointerId)
    drag.held = { entry: nearest(place(event)), value: null }
    draw()
  }
  grip.onpointermove = event => {
    if (!drag.held) return
    const axis = plotOf(chart)._fullLayout.xaxis, [low, high] = axis.range
    move(Number(Math.min(high, Math.max(low, axis.p2l(place(event)))).toPrecision(4)))
  }
  grip.onpointerup = grip.onpointercancel = event => {
    const held = drag.held
    drag.held = null
    draw()
    if (held && held.value !== null) drag.drop({ layer: drag.data.layer, ...held })
  }
}

function move(value) {
  const { chart, layer, name } = drag.data, { entry } = drag.held, stage = window.slimscopeStage
  drag.held.value = value
  const marks = stage.marks[chart].map(mark => mark.entries ? { ...mark, at: mark.at.map((old, i) => i === entry ? value : old) } : mark)
  stage.marks = { ...stage.marks, [chart]: marks }
  stage.draw(chart)
  if (!stage.ask?.recipe || stage.ask.name !== name) return
  const now = stage.ask.recipe[stage.ask.at][1].by_hand ?? {}
  const by_hand = { ...now, [layer]: { ...now[layer], [entry]: value } }
  // While the handle is held, answers about where it was do not move it back.
  stage.ask.controls.by_hand ??= { stops: [], ahead: { marks: [{ [chart]: [] }] } }
  stage.moved({ data: { name }, settings: { by_hand } }, { by_hand })
}

if (!drag.watching)
  document.addEventListener("slimscope-marks", ({ detail }) => { if (detail === drag.data?.chart) draw() })
drag.watching = true

export default function ({ data, setStateValue }) {
  Object.assign(drag, { data, drop: dropped => setStateValue("dropped", { ...dropped, turn: ++drag.turn }) })
  draw()
}
