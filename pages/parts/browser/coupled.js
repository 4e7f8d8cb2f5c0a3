// A layer's filters as tiles, the smallest first, and lines to every slice that must go with the one picked.
const SVG = "http://www.w3.org/2000/svg"
const memory = new WeakMap() // element -> what it shows: data, picked, turn (clicks so far), its parts

const make = (tag, properties, parent) => {
  const node = Object.assign(document.createElement(tag), properties)
  parent.appendChild(node)
  return node
}

export default function ({ data, parentElement, setStateValue }) {
  const root = parentElement.querySelector(".coupled")
  const mine = memory.get(root) ?? { turn: data.turn }
  memory.set(root, mine)
  // An answer from before the last click does not undo it.
  if (data.turn >= mine.turn || mine.data?.group !== data.group) mine.picked = data.picked
  Object.assign(mine, { data, tell: () => setStateValue("picked", { number: mine.picked, turn: mine.turn }) })
  build(root, mine)
}

function build(root, mine) {
  const { data } = mine, held = root.contains(root.getRootNode().activeElement)
  root.replaceChildren()
  const left = make("div", { className: "side" }, root), right = make("div", { className: "side" }, root)
  make("p", { textContent: `${data.group}: ${data.order.length} filters, the smallest first` }, left)
  const tiles = make("div", { className: "filters" }, left)
  tiles.setAttribute("role", "radiogroup")
  tiles.setAttribute("aria-label", `Filters of ${data.group}`)
  tiles.style.setProperty("--side", `${data.order.length <= 64 ? 30 : data.order.length <= 160 ? 20 : 13}px`)
  mine.tiles = data.order.map((number, rank) => {
    const tile = make("button", { type: "button", title: `filter ${number}, score ${data.scores[rank].toPrecision(4)}` }, tiles)
    tile.setAttribute("role", "radio")
    tile.setAttribute("aria-label", tile.title)
    if (data.hand.includes(number)) tile.classList.add("gone")
    if (data.pictures.length) tile.style.backgroundImage = `url(${data.pictures[rank]})`
    else tile.style.setProperty("--share", `${Math.round(100 * data.scores[rank] / (data.scores.at(-1) || 1))}%`)
    tile.onclick = () => pick(root, mine, rank, 0)
    return tile
  })
  mine.fade?.()
  const fade = ({ detail } = { detail: data.chart }) => {
    if (!data.chart || detail !== data.chart) return
    const bands = window.slimscopeStage?.marks[data.chart] || []
    mine.tiles.forEach((tile, i) => tile.classList.toggle("gone",
      data.hand.includes(data.order[i]) || bands.some(({ from, to }) => i + 1 > from && i + 1 < to)))
  }
  document.addEventListener("slimscope-marks", fade)
  mine.fade = () => document.removeEventListener("slimscope-marks", fade)
  fade()
  tiles.onkeydown = event => {
    const across = Math.max(1, mine.tiles.findIndex((tile, i) => i && tile.offsetTop > mine.tiles[0].offsetTop))
    const at = data.order.indexOf(mine.picked), last = mine.tiles.length - 1
    const to = { ArrowLeft: at - 1, ArrowRight: at + 1, ArrowUp: at - across, ArrowDown: at + across, Home: 0, End: last }[event.key]
    if (!mine.tiles[to]) return
    event.preventDefault()
    pick(root, mine, to, 150) // keys held down are told once
    mine.tiles[to].focus()
  }
  make("p", { textContent: "what must go with it" }, right)
  mine.slices = data.parts.map(part => {
    const row = make("div", { className: "part" }, right)
    make("span", { textContent: `${part.layer}: ${part.what}, ${part.elements.toLocaleString("en")} numbers` }, row)
    const bar = make("div", { className: `bar ${part.role}` }, row)
    return make("div", { className: "slice" }, bar)
  })
  mine.lines = root.appendChild(document.createElementNS(SVG, "svg"))
  mine.lines.setAttribute("aria-hidden", "true")
  mine.watch?.disconnect()
  mine.watch = new ResizeObserver(() => draw(root, mine))
  mine.watch.observe(root)
  draw(root, mine)
  if (held) mine.tiles[data.order.indexOf(mine.picked)]?.focus()
}

function pick(root, mine, rank, pause) {
  mine.picked = mine.data.order[rank]
  mine.turn++
  draw(root, mine)
  clearTimeout(mine.timer)
  mine.timer = setTimeout(() => mine.tell(), pause)
}

function draw(root, mine) {
  const { data, tiles, slices, lines } = mine, rank = data.order.indexOf(mine.picked)
  tiles.forEach((tile, i) => {
    tile.setAttribute("aria-checked", String(i === rank))
    tile.tabIndex = i === Math.max(rank, 0) ? 0 : -1
  })
  lines.replaceChildren()
  if (rank < 0) return
  const frame = root.getBoundingClientRect(), from = tiles[rank].getBoundingClientRect()
  const start = [from.right - frame.left, from.top - frame.top + from.height / 2]
  data.parts.forEach((part, i) => {
    slices[i].style.left = `${100 * part.at[mine.picked] / part.of}%`
    slices[i].style.width = `max(3px, ${100 * part.block / part.of}%)`
    const to = slices[i].getBoundingClientRect()
    const end = [to.left - frame.left + to.width / 2, to.top - frame.top + to.height / 2]
    const line = lines.appendChild(document.createElementNS(SVG, "path"))
    const middle = (start[0] + end[0]) / 2
    line.setAttribute("d", `M${start} C${middle},${start[1]} ${middle},${end[1]} ${end}`)
    line.setAttribute("class", part.role)
  })
}
