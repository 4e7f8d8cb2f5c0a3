// Draws moving marks over Plotly charts that stay as they are: a changed figure would be
// re-created (40-100 ms), a mark moves in a few. Reads Plotly's own axes from _fullLayout.
const SVG = "http://www.w3.org/2000/svg"
const wanted = new Map() // chart key -> marks, as last sent

const make = (tag, attributes, parent) => {
  const node = document.createElementNS(SVG, tag)
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value)
  parent.appendChild(node)
  return node
}

const plotOf = key => document.querySelector(`.st-key-${key} .js-plotly-plot`)

function draw(key) {
  const plot = plotOf(key)
  const layout = plot && plot._fullLayout
  if (!layout || !layout._size || !layout.xaxis) return false
  if (plot.dataset.marks !== key) {
    plot.dataset.marks = key
    plot.on("plotly_afterplot", () => draw(key))
    plot.style.position = "relative"
  }
  plot.querySelector(":scope > svg.marks")?.remove()
  const size = layout._size
  const svg = make("svg", { class: "marks", "aria-hidden": "true" }, plot)
  Object.assign(svg.style, {
    position: "absolute", left: `${size.l}px`, top: `${size.t}px`, width: `${size.w}px`, height: `${size.h}px`,
    overflow: "hidden", pointerEvents: "none", zIndex: 2,
  })
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
  for (const mark of wanted.get(key) || []) {
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
    } else if (mark.kind === "dot") {
      make("circle", { cx: x(mark.x), cy: y(mark.y), r: 6, fill: colour, stroke: "var(--halo)", "stroke-width": 2 }, svg)
      if (mark.text) label(mark.text, x(mark.x) + 4, Math.max(14, y(mark.y) - 14), colour)
    }
  }
  return true
}

export default function (component) {
  const { data, parentElement } = component
  const halo = getComputedStyle(parentElement.querySelector("span")).getPropertyValue("--st-background-color")
  document.documentElement.style.setProperty("--halo", halo)
  let pending = Object.keys(data)
  for (const key of pending) wanted.set(key, data[key])
  const attempt = left => {
    pending = pending.filter(key => !draw(key))
    if (pending.length && left) setTimeout(() => attempt(left - 1), 50)
  }
  attempt(200)
}
