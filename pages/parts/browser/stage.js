// Everything on a page that moves with a slider: marks over Plotly charts, pieces of HTML, tiles.
// Plotly draws a chart once (a changed figure is re-created: 40-100 ms) and React is left out of it:
// while a slider moves, the server is asked at ./live for exact answers, one question at a time,
// the newest first. What Streamlit's own run says counts once it has heard of all edits of the panel (panel.js).
import { plotOf } from "./chart.js"
import { draw, stage } from "./marks.js"
import { precomputed } from "./precompute.js"

const REST = 30 // ms without a move, before what takes longer is asked for
const BUSY = 100, IDLE = 3200 // ms until a server that was busy is asked ahead again: first, and at most
const KNOWN = 8 // answers that are kept

// ---------------------------------------------------------------- pieces of HTML and tiles

// Make `old` like `wanted`, keeping the nodes: a picture that stays in the page does not blink.
function morph(old, wanted) {
  if (old.nodeName !== wanted.nodeName || old.childNodes.length !== wanted.childNodes.length)
    return old.replaceWith(wanted)
  if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== wanted.data) old.data = wanted.data
    return
  }
  for (const { name, value } of [...wanted.attributes]) if (old.getAttribute(name) !== value) old.setAttribute(name, value)
  for (const { name } of [...old.attributes]) if (!wanted.hasAttribute(name)) old.removeAttribute(name)
  const fresh = [...wanted.childNodes]
  for (const [i, child] of [...old.childNodes].entries()) morph(child, fresh[i])
}

// Marks that another script owns: over its chart at once, or as soon as the chart is there.
stage.put = (chart, marks) => {
  stage.marks[chart] = marks
  if (!draw(chart)) paint([...stage.left, () => draw(chart)])
}

const parsed = html => {
  const template = document.createElement("template")
  template.innerHTML = html
  return template.content
}

function fill(place) {
  const found = document.querySelector(`[data-live="${place}"]`)
  if (!found) return false
  const wanted = found.cloneNode(false)
  wanted.append(parsed(stage.html[place]))
  morph(found, wanted)
  return true
}

function tile(name) {
  const found = document.querySelector(`.st-key-tiles [data-tile="${name}"]`)
  if (!found) return false
  if (stage.pending.includes(name)) {
    found.classList.add("pending")
    found.setAttribute("aria-busy", "true")
    const note = found.querySelector(".note")
    if (note) note.textContent = "working it out ..."
  } else if (stage.tiles[name]) morph(found, parsed(stage.tiles[name]).firstElementChild)
  return true
}

// What Keep would do is said by the server's own run, after the tiles: until then it is marked as of before.
const dim = () => stage.ask?.recipe && document.querySelectorAll(".keeps").forEach(line => {
  line.classList.toggle("pending", line.dataset.of !== stage.key)
  line.setAttribute("aria-busy", line.dataset.of !== stage.key)
})

// What is not in the page yet (Streamlit may draw it after this) is tried again whenever something comes into it.
function paint(jobs) {
  stage.left = jobs.filter(job => !job())
}

function show(message) {
  const whole = Boolean(message.marks) // without marks it is what was still missing of an answer
  if (!whole && message.key !== stage.key) return // of where the slider was before
  if (whole) Object.assign(stage, { key: message.key, marks: { ...stage.marks, ...message.marks } })
  stage.html = { ...(whole ? {} : stage.html), ...message.html }
  stage.pending = whole ? message.pending : stage.pending.filter(name => !(name in message.tiles))
  stage.tiles = { ...stage.tiles, ...message.tiles }
  dim()
  paint([
    ...(whole ? Object.keys(message.marks).map(chart => () => draw(chart)) : stage.left),
    ...Object.keys(message.html).map(place => () => fill(place)),
    ...[...Object.keys(message.tiles), ...stage.pending].map(name => () => tile(name)),
  ])
}

// A run of the page that began before the move draws old things: while the server has not heard of the move, what is
// shown of it is put over them as they come.
const repaint = () => paint(Object.keys(stage.marks).filter(plotOf).map(chart => () => draw(chart)))

function restore(list) {
  if (stage.left.length) paint(stage.left)
  dim()
  if (!stage.ask?.recipe || stage.server !== null) return
  for (const { addedNodes } of list)
    for (const node of addedNodes)
      for (const found of node.querySelectorAll ? [node, ...node.querySelectorAll("[data-live], [data-tile]")] : []) {
        if (found.dataset?.live in stage.html) fill(found.dataset.live)
        if (found.dataset?.tile) tile(found.dataset.tile)
      }
}

// ---------------------------------------------------------------- asking while a slider moves

const panelOf = ask => window.slimscopePanels?.[ask?.name]

// The settings that the server had not heard of when it said this: they are the panel's.
const unacknowledged = ask => Object.entries(panelOf(ask)?.set ?? {}).filter(([, [, number]]) => number > ask.acknowledged)

// What the browser knows ahead is sent with the whole page only: it stays while the slider has the same stops.
function learn(ask) {
  for (const [setting, control] of Object.entries(ask.controls)) {
    const known = stage.ask?.name === ask.name && stage.ask.controls[setting]
    if (String(known?.stops) === String(control.stops)) control.ahead ??= known.ahead
  }
  stage.ask = ask
}

function received(message) {
  if (!message.ask) { // the last word of a run of the page; it may be here before what it is about
    stage.late = message
    return message.key === stage.key ? show(message) : repaint()
  }
  const { ask } = message, known = stage.ask
  if (known?.name === ask.name && known.base === ask.base && (known.version > ask.version || known.acknowledged > ask.acknowledged)) return
  learn(ask)
  if (!("key" in message)) return // a page whose own run answers
  const mine = unacknowledged(ask)
  for (const [setting, [value]] of mine) ask.recipe[ask.at][1][setting] = value
  if (mine.length) { // of before: another run is on its way, and this one may have drawn old things over new ones
    stage.server = null
    repaint()
    return inquire()
  }
  stage.server = message.key
  if (message.drawn) stage.drawn = message.key
  if (message.drawn || message.key !== stage.key || !stage.mine) show(message)
  if (stage.late?.key === stage.key) show(stage.late)
  stage.mine = false
  soon()
}

// The panel's settings have changed by its own controls.
stage.moved = (panel, changed) => {
  const { ask } = stage, [setting] = Object.keys(changed)
  if (ask?.name !== panel.data.name) return
  const control = ask.controls[setting], stop = control ? control.stops.indexOf(changed[setting]) : -1
  if (!ask.recipe) return control && precomputed(control.ahead, stop) // Streamlit's own run answers
  if (control) stage.way = stop - control.stops.indexOf(ask.recipe[ask.at][1][setting])
  const recipe = structuredClone(ask.recipe)
  Object.assign(recipe[ask.at][1], panel.settings)
  stage.ask = { ...ask, recipe }
  stage.server = stage.key = null // what is shown is of no place on the slider any more
  stage.ahead = control?.ahead
  stage.pending = [...document.querySelectorAll(".st-key-tiles [data-tile]")].map(found => found.dataset.tile)
  stage.pending.forEach(tile)
  dim()
  precomputed(stage.ahead, stop)
  inquire()
}

stage.focused = () => {
  stage.way = 1
  soon()
}

// XMLHttpRequest, not fetch: its answer takes one turn of the event loop, where fetch takes two,
// and turns are dear while React draws. Resolves to {status, message}; status 0 is no answer.
const post = (question, door = "live") => new Promise(resolve => {
  const request = new XMLHttpRequest()
  request.open("POST", new URL(door, document.baseURI))
  request.setRequestHeader("Content-Type", "application/json")
  request.onloadend = () => resolve({ status: request.status, message: request.status === 200 && JSON.parse(request.responseText) })
  request.send(JSON.stringify(question))
})

// The last answers about steps are kept, those still to come too: nothing is asked twice.
// Who asks `ahead` gets none while the server is at work for others.
async function answered(question, ahead = false) {
  const text = JSON.stringify(question), found = stage.known.has(text) && await stage.known.get(text)
  if (found && (found.message || ahead)) return found
  const coming = post(question, ahead ? "live/ahead" : "live")
  stage.known.set(text, coming)
  if (stage.known.size > KNOWN) stage.known.delete(stage.known.keys().next().value)
  const answer = await coming
  if (!answer.message && stage.known.get(text) === coming) stage.known.delete(text)
  return answer
}

// The slider has moved on: what the browser shows of its new place by itself stays.
function behind(message, ahead) {
  const marks = { ...message.marks }, html = { ...message.html }
  for (const chart of Object.keys(ahead?.marks?.[0] || {})) delete marks[chart]
  delete html[ahead?.thumbnail?.place]
  return { ...message, marks, html, tiles: {} }
}

async function inquire() {
  stage.again = true
  if (stage.asking) return
  stage.asking = true
  while (stage.again) {
    stage.again = false
    const { controls, base, version, acknowledged, name, ...question } = stage.ask, asked = stage.ask
    const { message } = await answered(question)
    // Without an answer, Streamlit's own run brings it; it may have been there first, or speak of another page.
    if (!message || stage.server !== null || stage.ask.name !== name || stage.ask.subject !== question.subject) continue
    stage.mine = stage.ask === asked
    show(stage.mine ? message : behind(message, stage.ahead))
  }
  stage.asking = false
  soon()
}

// What must be measured is asked for when the slider rests, and the rest of the page after that.
function soon() {
  clearTimeout(stage.rest)
  stage.rest = setTimeout(finish, REST)
}

async function finish() {
  if (!stage.ask?.recipe || stage.key === null || stage.down || stage.asking) return
  lookAround()
  if (stage.measuring) return
  const { key, ask: { subject } } = stage
  const isHere = () => stage.key === key && stage.ask.subject === subject
  stage.measuring = true
  while (stage.pending.length && isHere()) { // accuracy first, then the file
    const name = stage.pending[0]
    const { message } = await post({ subject, measured: key, tile: name }, "live/measured")
    if (!isHere()) break
    if (message) show(message)
    if (stage.pending[0] === name) break // nobody answers here: Streamlit's own run brings it
  }
  stage.measuring = false
  if (!isHere()) return soon()
  if (stage.drawn !== stage.key && stage.settled !== stage.key && stage.server === stage.key) {
    stage.settled = stage.key
    stage.settle?.()
  }
}

// Whoever goes from stop to stop finds the exact answer here: both neighbours of the slider that has the focus.
// A jump says nothing about where the next one goes.
async function lookAround() {
  const { controls, base, version, acknowledged, name, ...question } = stage.ask, looking = stage.looking = {}
  const focus = panelOf(stage.ask)?.focus
  if (!controls[focus] || !question.recipe || Math.abs(stage.way) !== 1) return
  const { stops } = controls[focus], { key, way } = stage
  const at = stops.indexOf(question.recipe[question.at][1][focus])
  for (const next of at < 0 ? [] : [at + way, at - way].filter(place => place in stops)) {
    const recipe = structuredClone(question.recipe)
    recipe[question.at][1][focus] = stops[next]
    for (let pause = BUSY; stage.looking === looking && stage.key === key && !stage.asking; pause = Math.min(2 * pause, IDLE)) {
      const { status, message } = await answered({ ...question, recipe }, true)
      if (message || status !== 200) break
      await new Promise(resolve => setTimeout(resolve, pause))
    }
  }
}

stage.draw = draw // drag.js moves marks by itself

if (!stage.watching) {
  new MutationObserver(restore).observe(document.documentElement, { subtree: true, childList: true })
  for (const [event, down] of [["pointerdown", true], ["pointerup", false], ["pointercancel", false]])
    document.addEventListener(event, () => { stage.down = down; if (!down) soon() }, true)
}
stage.watching = true

export default function (component) {
  const { data, parentElement, setStateValue } = component
  if (data.rest) {
    stage.drawn = data.key
    // As state: a trigger that is sent while the component is drawn anew does not arrive.
    stage.settle = () => window.slimscopePlaces?.leaving() || setStateValue("settled", stage.key)
  } else {
    const halo = getComputedStyle(parentElement.querySelector("span")).getPropertyValue("--st-background-color")
    document.documentElement.style.setProperty("--halo", halo)
  }
  received(data)
}
