// What scripts over Plotly charts share.
export const make = (tag, attributes, parent) => {
  const node = parent.appendChild(document.createElementNS("http://www.w3.org/2000/svg", tag))
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value)
  return node
}

export const plotOf = chart => document.querySelector(`.st-key-${chart} .js-plotly-plot`)

// Lay an SVG over the plotting area of a chart.
export const lay = (svg, { l, t, w, h }, style) =>
  Object.assign(svg.style, { position: "absolute", left: `${l}px`, top: `${t}px`, width: `${w}px`, height: `${h}px`, pointerEvents: "none", ...style })
