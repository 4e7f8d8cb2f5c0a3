// Arrow keys tell the story: every key that the server has not confirmed is sent again with the next one, so that none
// is lost, however fast they come. Keys of a slider, a field or a table stay theirs.
const story = (window.slimscopeStory ??= { base: "", heard: 0, keys: "" })
const ALWAYS = { ArrowRight: "n", ArrowLeft: "b" }
const PRESENTED = { ...ALWAYS, PageDown: "n", PageUp: "b", Escape: "x" }
const THEIRS = `input, textarea, select, canvas, dialog, [contenteditable=true], [role=slider], [role=tab], [role=radio],
  [role=dialog], [role=listbox], [role=option], [role=menu], [role=grid], [data-testid=stDataFrame], [data-testid=stSidebar]`

// What a key press means here: a move, or null where it is not for the story.
export function meaning(event, presented) {
  const target = event.composedPath()[0]
  const move = (presented ? PRESENTED : ALWAYS)[event.key]
  const isTaken = event.defaultPrevented || event.ctrlKey || event.altKey || event.metaKey || event.shiftKey
  if (!move || isTaken || (move !== "x" && target.closest?.(THEIRS))) return null
  return move
}

// After an answer of the server: keys that it has heard of are done; another session begins anew.
export function confirmed(known, data) {
  if (data.base !== known.base) return { base: data.base, heard: data.heard, keys: "" }
  if (data.heard < known.heard) return known
  return { ...known, heard: data.heard, keys: known.keys.slice(data.heard - known.heard) }
}

function press(event) {
  if (!story.said?.isConnected) return
  const move = meaning(event, story.presented)
  if (move === null) return
  event.preventDefault()
  story.keys += move
  story.send({ base: story.base, start: story.heard, keys: story.keys })
}

export default function ({ data, parentElement, setStateValue }) {
  const said = parentElement.querySelector("p")
  Object.assign(story, confirmed(story, data), { said, presented: data.presented, send: keys => setStateValue("pressed", keys) })
  if (said.textContent !== data.said) said.textContent = data.said
  if (!story.listening) document.addEventListener("keydown", event => window.slimscopeStory.press(event))
  story.listening = true
  story.press = press
}
