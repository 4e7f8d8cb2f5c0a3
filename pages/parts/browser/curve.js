// The present point on the curve of accuracy against bytes. It moves in the turn of the event loop in which the slider
// does, "≈" between measured points; a click on a point of the chart moves the slider, as an edit of its panel.
import { stage } from "./marks.js"
import "./stage.js" // which puts marks over charts, also where nothing else of a page moves

const CHART = "size-curve"
const REST = 1500 // ms without a move before the server is asked, and Plotly draws: no value hangs on it
const curve = (window.slimscopeCurve ??= {})

// ---------------------------------------------------------------- what to show: no DOM

// The place of these settings on the curve; null where another setting than the curve's own has changed.
export function placeOf(data, settings) {
  const same = name => name === data.setting || JSON.stringify(settings[name]) === JSON.stringify(data.settings[name])
  if (!Object.keys(data.settings).every(same)) return null
  const value = settings[data.setting]
  return data.stops.reduce((best, stop, i) => Math.abs(stop - value) < Math.abs(data.stops[best] - value) ? i : best, 0)
}

// What is shown there: what the server measured for just these settings, else what is known of the nearest stop.
export function shown(data, settings) {
  const place = placeOf(data, settings)
  if (place === null) return { words: data.other }
  if (data.now && settings[data.setting] === data.settings[data.setting]) return data.now
  return data.places[place] ?? { words: data.none }
}

// ---------------------------------------------------------------- on the page

const plot = () => document.querySelector(`.st-key-${CHART} .js-plotly-plot`)
const panel = () => window.slimscopePanels?.[curve.data.name]
const settingsNow = () => panel()?.settings ?? curve.data.settings

function show() {
  const { data, words } = curve, now = shown(data, settingsNow())
  const dots = [...data.visited.map(([x, y]) => ({ kind: "dot", hollow: true, x, y, colour: "currentColor" }))]
  if (now.x !== undefined) dots.push({ kind: "dot", x: now.x, y: now.y, text: now.label, below: true, colour: "currentColor" })
  words.textContent = now.words
  stage.put(CHART, now.words === data.other ? [] : dots)
  const chart = document.querySelector(`.st-key-${CHART}`)
  if (chart) chart.style.opacity = now.words === data.other ? 0.4 : 1
  chart?.querySelector("[role=figure]")?.setAttribute("aria-label", `${data.alt} ${now.words}`)
}

// The server is asked where it has more to say: of this place of the slider, or of points that are still missing.
function wait() {
  clearTimeout(curve.timer)
  const { left, settings } = curve.data, now = settingsNow()
  const hasMoved = Object.keys(settings).some(name => JSON.stringify(settings[name]) !== JSON.stringify(now[name]))
  if (left || hasMoved) curve.timer = setTimeout(ask, REST)
}

function ask() {
  if (!curve.words.isConnected) return
  const busy = stage.down || stage.asking || Object.keys(panel()?.set ?? {}).length
  if (busy) return wait()
  curve.again(curve.data.sent)
}

function listen() {
  document.addEventListener("slimscope-moved", ({ detail }) => {
    if (curve.data.name !== detail.data.name || !curve.words.isConnected) return
    show()
    wait()
  })
  document.addEventListener("slimscope-marks", ({ detail }) => {
    if (detail === CHART) bind(plot())
  })
}

function bind(chart) {
  if (!chart?.on || chart.dataset.curve) return
  chart.dataset.curve = CHART
  chart.on("plotly_click", ({ points: [point] }) => {
    const value = [point.customdata].flat()[0]
    if (typeof value === "number") panel()?.change({ [curve.data.setting]: value })
  })
}

export default function (component) {
  const { data, parentElement, setStateValue } = component
  const again = sent => window.slimscopePlaces?.leaving() || setStateValue("again", sent) // as state: a trigger may be lost
  Object.assign(curve, { data, words: parentElement.querySelector("p"), again })
  if (!curve.listening) listen()
  curve.listening = true
  show()
  wait()
}
