// The controls of a technique, drawn and owned here. Each edit gets a number; what the server has not heard of
// lies over what it says, so neither undoes the other (draft.py has the same rule). Timers pace messages only.
const PACE = 40 // ms without an edit before the server's own run is asked for
const HELD = 400 // the same while a slider is held: /live answers meanwhile

// ---------------------------------------------------------------- who is right: no DOM, no clock

// What the server says, under the edits that it had not heard of when it said so.
export function hear(panel, data) {
  if (panel.base !== data.base) Object.assign(panel, { base: data.base, seq: data.acknowledged, sent: data.acknowledged, set: {} })
  else if (panel.data && [panel.data.version, panel.data.acknowledged].some((n, i) => n > [data.version, data.acknowledged][i])) return false
  panel.seq = Math.max(panel.seq, data.acknowledged)
  panel.sent = Math.max(panel.sent, data.acknowledged)
  for (const [name, [, number]] of Object.entries(panel.set)) if (number <= data.acknowledged) delete panel.set[name]
  panel.data = data
  panel.settings = { ...data.settings, ...pending(panel) }
  return true
}

export const pending = panel => Object.fromEntries(Object.entries(panel.set).map(([name, [value]]) => [name, value]))

export function edit(panel, changed) {
  const number = ++panel.seq
  for (const [name, value] of Object.entries(changed)) panel.set[name] = [value, number]
  panel.settings = { ...panel.settings, ...changed }
}

// The message to the server, or nothing where it has all.
export function outgoing(panel) {
  if (panel.sent === panel.seq) return null
  panel.sent = panel.seq
  return { base: panel.base, seq: panel.seq, set: structuredClone(panel.set) }
}

// ---------------------------------------------------------------- values as people read and write them

export const written = (control, value) =>
  control.percent ? `${Number((100 * value).toPrecision(4))} %` : `${Number(Number(value).toPrecision(4))}`

export const placeOf = (stops, value) =>
  stops.reduce((best, stop, i) => Math.abs(stop - value) < Math.abs(stops[best] - value) ? i : best, 0)

// The value that was typed, in the unit that is shown; null where it is none.
export function typed(control, text) {
  const number = Number(text.replace("%", "").replace(",", ".").trim())
  if (!text.trim() || !Number.isFinite(number)) return null
  const value = Math.min(Math.max(control.percent ? number / 100 : number, control.low), control.high)
  return control.whole ? Math.round(value) : Number(value.toPrecision(10))
}

export const isVisible = (control, settings) =>
  control.when.every(([other, values]) => values.includes(settings[other]))

// ---------------------------------------------------------------- what is on the page

const safe = text => String(text).replace(/[&<>"]/g, c => `&#${c.charCodeAt(0)};`)

function helped(control, id) {
  const options = Object.entries(control.options || {}).map(([name, text]) => `<dt>${safe(name)}</dt><dd>${safe(text)}</dd>`)
  return `<button type="button" class="help" popovertarget="${id}-help" aria-label="About ${safe(control.label)}">?</button>
<div class="about" popover id="${id}-help"><p>${safe(control.help)}</p>${options.length ? `<dl>${options.join("")}</dl>` : ""}</div>`
}

const KINDS = {
  slider(control, id) {
    const ticks = control.ticks.map(place => `<option value="${place}"></option>`).join("")
    return `<div class="head"><label for="${id}">${safe(control.title)}</label>${helped(control, id)}
<input class="exact" inputmode="decimal" autocomplete="off" aria-label="${safe(control.label)}, exact"></div>
${control.stops ? `<input type="range" id="${id}" min="0" max="${control.stops.length - 1}" step="1" list="${id}-ticks">
<datalist id="${id}-ticks">${ticks}</datalist>` : ""}`
  },
  choice(control, id) {
    const names = Object.keys(control.options), head = `<div class="head"><span id="${id}-label">${safe(control.title)}</span>${helped(control, id)}</div>`
    if (names.length * (7 * Math.max(...names.map(name => name.length)) + 16) > 172) // they would not fit side by side
      return `${head}<select aria-labelledby="${id}-label">${names.map(n => `<option>${safe(n)}</option>`).join("")}</select>`
    return `${head}<div class="segments" role="radiogroup" aria-labelledby="${id}-label">${names.map(n =>
      `<label title="${safe(control.options[n])}"><input type="radio" name="${id}" value="${safe(n)}"><span>${safe(n)}</span></label>`).join("")}</div>`
  },
  toggle(control, id) {
    return `<div class="head"><label class="switch"><input type="checkbox" role="switch">${safe(control.title)}</label>${helped(control, id)}</div>`
  },
  layers(control, id) {
    const rows = control.layers.map(n => `<label><input type="checkbox" value="${safe(n)}">${safe(n)}</label>`)
    return `<div class="head"><span>${safe(control.title)}</span>${helped(control, id)}</div><div class="list">${rows.join("")}</div>`
  },
  table(control, id) {
    const rows = control.layers.map(n =>
      `<label><span>${safe(n)}</span><input inputmode="decimal" autocomplete="off" data-layer="${safe(n)}" placeholder="as set" aria-label="${safe(control.label)} of ${safe(n)}"></label>`)
    return `<div class="head"><span>${safe(control.title)}</span>${helped(control, id)}</div><div class="list">${rows.join("")}</div>`
  },
}

const drawn = (panel, control) => `<div class="control ${control.kind}" data-control="${panel.data.name}-${control.setting}"
 data-setting="${control.setting}">${KINDS[control.kind](control, `${panel.data.name}-${control.setting}`)}</div>`

function build(panel, root) {
  const { presets, groups, name } = panel.data
  const buttons = Object.entries(presets).map(([title, { words, short }]) =>
    `<button type="button" data-preset="${safe(title)}" title="${safe(words)}">${safe(title[0].toUpperCase() + title.slice(1))} <small>${safe(short)}</small></button>`)
  const inside = ({ controls }) => controls.map(control => drawn(panel, control)).join("")
  const folds = groups.filter(group => group.title).map(group =>
    `<details data-fold="${safe(group.title)}-${name}"><summary>${safe(group.title)}</summary>${inside(group)}</details>`)
  root.innerHTML = `${buttons.length ? `<div class="presets">${buttons.join("")}</div>` : ""}
${groups.filter(group => !group.title).map(inside).join("")}<div class="folds">${folds.join("")}</div>
<button type="button" class="unfold" aria-expanded="false">More settings</button>`
  root.classList.add("folded") // on a phone, where the slider and the picture come first
}

const controlsOf = panel => panel.data.groups.flatMap(group => group.controls)

// Put the settings into the controls; the one that is being typed in stays as it is.
function fill(panel) {
  for (const control of controlsOf(panel)) {
    const at = panel.root.querySelector(`[data-setting="${control.setting}"]`), value = panel.settings[control.setting]
    at.hidden = !isVisible(control, panel.settings)
    const put = (input, text) => { if (input && input !== panel.typing && input.value !== text) input.value = text }
    if (control.kind === "slider") {
      const range = at.querySelector("[type=range]"), words = `${written(control, value)}${control.percent ? "" : ` ${control.unit}`}`.trim()
      put(at.querySelector(".exact"), written(control, value))
      if (range) {
        put(range, String(placeOf(control.stops, value)))
        range.setAttribute("aria-valuetext", words)
      }
    } else if (control.kind === "choice") {
      for (const radio of at.querySelectorAll("[type=radio]")) radio.checked = radio.value === value
      put(at.querySelector("select"), value)
    } else if (control.kind === "toggle") at.querySelector("input").checked = value
    else if (control.kind === "layers") for (const box of at.querySelectorAll("input")) box.checked = value.includes(box.value)
    else for (const field of at.querySelectorAll("input")) put(field, field.dataset.layer in value ? written(control, value[field.dataset.layer]) : "")
  }
  for (const at of panel.root.querySelectorAll(".main")) at.classList.remove("main")
  panel.root.querySelector(".control.slider:not([hidden])")?.classList.add("main") // as wide as the pictures
  for (const fold of panel.root.querySelectorAll("details"))
    fold.hidden = [...fold.querySelectorAll(".control")].every(control => control.hidden)
}

// ---------------------------------------------------------------- edits

function flush(panel) {
  clearTimeout(panel.timer)
  const edits = outgoing(panel)
  if (edits) panel.send(edits)
}

function change(panel, changed) {
  const before = panel.settings
  if (Object.entries(changed).every(([name, value]) => JSON.stringify(before[name]) === JSON.stringify(value))) return fill(panel)
  edit(panel, changed)
  fill(panel)
  window.slimscopeStage?.moved?.(panel, changed, before)
  document.dispatchEvent(new CustomEvent("slimscope-moved", { detail: panel }))
  clearTimeout(panel.timer)
  panel.timer = setTimeout(flush, panel.held ? HELD : PACE, panel)
}

// What a control says now, or nothing where that is no value.
function read(panel, control, at, target) {
  if (control.kind === "slider") return target.type === "range" ? control.stops[Number(target.value)] : typed(control, target.value)
  if (control.kind === "choice") return target.value
  if (control.kind === "toggle") return target.checked
  if (control.kind === "layers") return [...at.querySelectorAll("input:checked")].map(box => box.value).sort()
  const table = {}
  for (const field of at.querySelectorAll("input")) {
    const value = typed(control, field.value)
    if (value !== null) table[field.dataset.layer] = value
  }
  return table
}

function touched(panel, event) {
  const at = event.target.closest("[data-setting]")
  if (!at) return
  const control = controlsOf(panel).find(one => one.setting === at.dataset.setting)
  const value = read(panel, control, at, event.target)
  if (value === null || value === undefined) return fill(panel)
  change(panel, { [control.setting]: value })
}

function listen(panel, root) {
  root.addEventListener("input", event => {
    if (event.target.type === "range") touched(panel, event)
    else if (event.target.type !== "checkbox" && event.target.type !== "radio") panel.typing = event.target
  })
  root.addEventListener("change", event => {
    if (event.target.type === "range") { // let go of, or a key
      if (panel.held) flush(panel)
      panel.held = false
      return
    }
    panel.typing = null
    touched(panel, event)
  })
  root.addEventListener("focusout", () => { panel.typing = null; fill(panel) })
  root.addEventListener("focusin", event => {
    const at = event.target.type === "range" && event.target.closest("[data-setting]")
    panel.focus = at ? at.dataset.setting : null
    window.slimscopeStage?.focused?.() // not there yet on a page that is just being opened
  })
  root.addEventListener("pointerdown", event => { panel.held = event.target.type === "range" })
  root.addEventListener("dblclick", event => {
    const at = event.target.type === "range" && event.target.closest("[data-setting]")
    if (at) change(panel, { [at.dataset.setting]: panel.data.defaults[at.dataset.setting] })
  })
  root.addEventListener("click", event => {
    const unfold = event.target.closest?.(".unfold")
    if (unfold) unfold.setAttribute("aria-expanded", String(!root.classList.toggle("folded")))
    const preset = event.target.closest?.("[data-preset]")
    if (preset) change(panel, { ...panel.data.defaults, ...panel.data.presets[preset.dataset.preset].settings })
  })
}

export default function (component) {
  const { data, parentElement, setStateValue } = component
  const panels = (window.slimscopePanels ??= {}), panel = (panels[data.name] ??= { seq: 0, sent: 0, set: {} })
  const root = parentElement.querySelector(".panel")
  panel.send = edits => setStateValue("edits", edits)
  panel.change = changed => change(panel, changed)
  if (!hear(panel, data)) return
  if (panel.root !== root) {
    Object.assign(panel, { root, drawn: null })
    listen(panel, root)
  }
  const shape = JSON.stringify([data.groups, data.presets])
  if (panel.drawn !== shape) {
    const open = [...root.querySelectorAll("details[open]")].map(fold => fold.dataset.fold)
    const focus = root.getRootNode().activeElement?.closest?.("[data-setting]")?.dataset.setting
    build(panel, root)
    panel.drawn = shape
    for (const fold of root.querySelectorAll("details")) fold.open = open.includes(fold.dataset.fold)
    if (focus) root.querySelector(`[data-setting="${focus}"] input`)?.focus()
  }
  fill(panel)
  if (!window.slimscopeFlush) { // a button's message carries what was edited before it
    window.slimscopeFlush = () => Object.values(panels).forEach(flush)
    for (const event of ["pointerdown", "keydown", "pagehide"])
      document.addEventListener(event, e => { if (!e.composedPath().some(node => node.classList?.contains("panel"))) window.slimscopeFlush() }, true)
  }
}
