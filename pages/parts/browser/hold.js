// Hold to compare: while the button (or its key) is down, everything of class `now` gives way to `was`.
export default function (component) {
  const { parentElement } = component
  const button = parentElement.querySelector("button")
  if (button.dataset.ready) return
  button.dataset.ready = "yes"
  const set = on => {
    document.documentElement.toggleAttribute("data-original", on)
    button.setAttribute("aria-pressed", String(on))
  }
  button.addEventListener("pointerdown", event => { button.setPointerCapture(event.pointerId); set(true) })
  for (const end of ["pointerup", "pointercancel", "blur"]) button.addEventListener(end, () => set(false))
  button.addEventListener("keydown", event => { if (event.key === " " || event.key === "Enter") { event.preventDefault(); set(true) } })
  button.addEventListener("keyup", () => set(false))
}
