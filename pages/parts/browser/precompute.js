// What the browser knows ahead of the server.
import { draw, stage } from "./marks.js"

// Marks and a small picture for this stop of the slider, at once; "≈" until the server has answered.
export function precomputed(ahead, stop) {
  if (!ahead || stop < 0) return
  const shares = ahead.shares?.[stop]
  for (const found of shares ? document.querySelectorAll(".bars [data-share]") : []) {
    const [set, i] = found.dataset.share.split("/"), share = shares[set]?.[i]
    if (share === undefined) continue
    if (found.className === "fill") found.style.width = `${100 * share}%`
    else found.textContent = found.className === "shade" ? (100 * share).toFixed(1) : `${(100 * share).toFixed(2)} %`
    if (found.className === "shade") found.style.setProperty("--share", `${100 * Math.sqrt(share)}%`)
  }
  for (const [place, text] of Object.entries(ahead.texts?.[stop] || {}))
    for (const found of document.querySelectorAll(`[data-text="${place}"]`)) found.textContent = text
  for (const [chart, marks] of Object.entries(ahead.marks?.[stop] || {})) {
    stage.marks[chart] = marks.map(mark => mark.text ? { ...mark, text: `≈ ${mark.text}` } : mark)
    draw(chart)
  }
  if (ahead.thumbnail) thumbnail(ahead.thumbnail, stop)
}

const bytes = text => Uint8Array.from(atob(text), letter => letter.charCodeAt(0))

function thumbnail(small, stop) {
  const old = document.querySelector(`[data-live="${small.place}"] .now`)
  if (!old) return
  small.ready ??= { numbers: bytes(small.numbers), goes: bytes(small.goes) }
  const { numbers, goes } = small.ready
  let canvas = old
  if (old.nodeName !== "CANVAS") {
    canvas = document.createElement("canvas")
    Object.assign(canvas, { width: small.width, height: small.height, className: old.className })
    canvas.setAttribute("style", old.getAttribute("style"))
    canvas.setAttribute("role", "img")
    canvas.setAttribute("aria-label", old.alt)
    old.replaceWith(canvas)
  }
  const pen = canvas.getContext("2d"), image = pen.createImageData(small.width, small.height)
  const colours = new Uint32Array(small.palette.map(([r, g, b]) => (255 << 24 | b << 16 | g << 8 | r) >>> 0))
  const pixels = new Uint32Array(image.data.buffer)
  for (let i = 0; i < pixels.length; i++) pixels[i] = goes[i] <= stop ? colours[0] : colours[numbers[i]]
  pen.putImageData(image, 0, 0)
}
