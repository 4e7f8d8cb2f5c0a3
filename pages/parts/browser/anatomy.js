// The picture of the model: boxes that stand where the server laid them out, each a button that chooses its layer.
const SVG = "http://www.w3.org/2000/svg"
const LARGEST = 1.15 // how far a picture grows where the page has more room
const ROUND = 5 // of a line's corners
const memory = new WeakMap() // element -> what it shows: data, chosen, turn (choices so far), its buttons

// ---------------------------------------------------------------- without DOM

// The place of the widest layout that has room; of the narrowest where none has.
export function fitting(layouts, room) {
  const found = layouts.findIndex(layout => layout.across <= room * LARGEST)
  return found < 0 ? layouts.length - 1 : found
}

// Corners as an SVG path with round corners.
export function rounded(points) {
  const towards = ([x, y], [u, v], most) => {
    const far = Math.hypot(u - x, v - y) || 1, step = Math.min(most, far / 2)
    return [x + (u - x) * step / far, y + (v - y) * step / far]
  }
  const inner = points.slice(1, -1).map((corner, i) =>
    `L${towards(corner, points[i], ROUND)}Q${corner} ${towards(corner, points[i + 2], ROUND)}`)
  return `M${points[0]}${inner.join("")}L${points.at(-1)}`
}

// The button that an arrow key leads to: along the order of use, or the nearest one above or below.
export function next(key, at, boxes) {
  const steps = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: boxes.length - 1 }
  if (key in steps) return boxes[steps[key]] ? steps[key] : at
  if (key !== "ArrowUp" && key !== "ArrowDown") return null
  const side = key === "ArrowUp" ? -1 : 1, [x, y] = boxes[at]
  const far = ([u, v]) => Math.abs(u - x) + 2 * Math.abs(v - y)
  return boxes.reduce((best, box, i) =>
    side * (box[1] - y) > 1 && (best === at || far(box) < far(boxes[best])) ? i : best, at)
}

// ---------------------------------------------------------------- on the page

const words = node => [node.name, node.about].filter(Boolean).join(", ")

const make = (tag, attributes, parent, text) => {
  const node = document.createElementNS(SVG, tag)
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value)
  if (text !== undefined) node.textContent = text
  parent.appendChild(node)
  return node
}

export default function ({ data, parentElement, setStateValue }) {
  const root = parentElement.querySelector(".anatomy")
  const mine = memory.get(root) ?? { turn: data.turn }
  memory.set(root, mine)
  if (data.turn >= mine.turn) Object.assign(mine, { chosen: data.chosen, turn: data.turn }) // not from before a click
  Object.assign(mine, { data, tell: () => setStateValue("chosen", { layer: mine.chosen, turn: mine.turn }) })
  root.classList.toggle("slim", data.slim)
  mine.sizes?.disconnect()
  mine.sizes = new ResizeObserver(() => fit(root, mine))
  mine.sizes.observe(root)
  const told = JSON.stringify([data.nodes, data.layouts])
  if (told !== mine.told) mine.place = null // else the boxes stay, and with them the focus
  mine.told = told
  fit(root, mine)
  if (mine.svg) {
    mark(root, mine)
    reveal(root, mine)
  }
  legend(root.querySelector(".scale"), data.scale)
}

function fit(root, mine) {
  const room = root.clientWidth, place = fitting(mine.data.layouts, room), layout = mine.data.layouts[place]
  if (!room || (place === mine.place && room === mine.room)) return // no room: in a tab that is not open
  const held = root.contains(root.getRootNode().activeElement)
  if (place !== mine.place) build(root, mine, layout)
  const scale = mine.data.slim ? 1 : Math.min(LARGEST, room / layout.width) // a line scrolls where it is too long
  mine.svg.setAttribute("width", layout.width * scale)
  mine.svg.setAttribute("height", layout.height * scale)
  Object.assign(mine, { place, room })
  mark(root, mine, held)
  if (held) mine.buttons[mine.at]?.focus({ preventScroll: true })
}

function build(root, mine, layout) {
  const { data } = mine, field = root.querySelector(".field")
  field.replaceChildren()
  mine.svg = make("svg", { viewBox: `0 0 ${layout.width} ${layout.height}`, role: "group", "aria-label": data.title }, field)
  const tip = make("marker", { id: "tip", viewBox: "0 0 6 6", refX: 5, refY: 3, markerWidth: 5, markerHeight: 5, orient: "auto" }, make("defs", {}, mine.svg))
  make("path", { d: "M0 0L6 3L0 6Z" }, tip)
  for (const { points, shortcut } of layout.paths)
    make("path", { d: rounded(points), class: shortcut ? "shortcut" : "", "marker-end": "url(#tip)" }, mine.svg)
  for (const { text, x, y, width } of layout.headings) {
    make("line", { x1: x, x2: x + width, y1: y + 1, y2: y + 1 }, mine.svg)
    make("text", { x, y: y + 8, class: "heading" }, mine.svg, text)
  }
  mine.buttons = []
  for (const [name, node] of Object.entries(data.nodes)) {
    const group = draw(mine.svg, node, layout.boxes[name])
    if (node.layer) press(root, mine, group, node)
  }
}

function draw(svg, node, [x, y, width, height, leaf]) {
  const group = make("g", {}, svg), middle = x + width / 2, isLayer = Boolean(node.layer)
  make("title", {}, group, words(node))
  if (!isLayer && node.role !== "input" && node.role !== "output") {
    make("circle", { cx: middle, cy: y + height / 2, r: width / 2 }, group)
    if (width > 10) make("text", { x: middle, y: y + height / 2 }, group, node.sign)
    return group
  }
  group.setAttribute("class", isLayer ? `layer${node.used ? "" : " unused"}${node.open ? "" : " closed"}` : "end")
  const rect = make("rect", { x, y, width, height, rx: isLayer ? 4 : height / 2.5 }, group)
  if (node.fill) rect.style.fill = node.fill
  if (node.ink) group.style.color = node.ink
  const hasTwo = height > 32 && node.value, lines = width < 34 ? [] : hasTwo ? [leaf, `${node.loops ? "↻ " : ""}${node.value}`] : [leaf]
  lines.forEach((line, i) =>
    make("text", { x: middle, y: y + height * (i + 1) / (lines.length + 1), class: i ? "value" : "" }, group, line))
  return group
}

function press(root, mine, group, node) {
  const place = mine.buttons.push(group) - 1
  group.layer = node.layer
  group.setAttribute("role", "button")
  group.setAttribute("aria-label", words(node))
  group.node = node
  if (!node.open) group.setAttribute("aria-disabled", "true")
  const choose = () => {
    if (!node.open) return
    Object.assign(mine, { chosen: node.layer, at: place, turn: mine.turn + 1 })
    mark(root, mine)
    mine.tell()
  }
  group.onclick = choose
  group.onmouseenter = group.onfocus = () => say(root, node)
  group.onmouseleave = () => mark(root, mine)
  group.onkeydown = event => {
    if (event.key === "Enter" || event.key === " ") choose()
    else {
      const centres = mine.buttons.map(button => {
        const { x, y, width, height } = button.querySelector("rect").getBBox()
        return [x + width / 2, y + height / 2]
      })
      const to = next(event.key, place, centres)
      if (to === null) return
      mine.at = to
      stops(mine)
      mine.buttons[to].focus()
    }
    event.preventDefault()
  }
}

// Where the line is wider than the page, the chosen layer stands in its middle.
function reveal(root, mine) {
  const field = root.querySelector(".field"), box = mine.buttons[mine.at]?.getBoundingClientRect()
  if (mine.data.slim && box && mine.revealed !== `${mine.chosen} ${mine.room}`)
    field.scrollLeft += box.left + box.width / 2 - field.getBoundingClientRect().left - field.clientWidth / 2
  mine.revealed = `${mine.chosen} ${mine.room}`
}

// One of the buttons is reached by Tab, the others by arrow keys.
const stops = mine => mine.buttons.forEach((button, i) => button.setAttribute("tabindex", i === mine.at ? 0 : -1))

function mark(root, mine, held = root.contains(root.getRootNode().activeElement)) {
  const of = mine.buttons.findIndex(button => button.layer === mine.chosen)
  mine.buttons.forEach(button => button.setAttribute("aria-pressed", button.layer === mine.chosen))
  if (!held || !mine.buttons[mine.at]) mine.at = Math.max(of, 0)
  stops(mine)
  say(root, mine.buttons[held ? mine.at : of]?.node)
}

function say(root, node) {
  root.querySelector(".said b").textContent = node?.name ?? ""
  root.querySelector(".said span").textContent = node ? `, ${node.about}` : ""
}

function legend(place, scale) {
  place.replaceChildren()
  if (!scale) return
  const part = (tag, text) => place.appendChild(Object.assign(document.createElement(tag), { textContent: text }))
  part("span", scale.low)
  part("i", "").style.background = `linear-gradient(to right, ${scale.colours.join(", ")})`
  part("span", scale.high)
  part("span", scale.about)
}
