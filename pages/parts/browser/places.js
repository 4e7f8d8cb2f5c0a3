// Where the browser is: what Streamlit does on the way from one page to another, put right for back and forward.
const places = (window.slimscopePlaces ??= { from: null, link: null })

// From the click on another page until its address is here, Streamlit takes what a component says for a wish to be on
// the old page: the click would be lost, and pieces of that page would come into an empty one. So nobody speaks then.
places.leaving = () => (places.from === location.pathname) || Boolean(places.from = null)

function leave(event) {
  const link = event.target.closest?.("a[data-testid=stSidebarNavLink], a[data-testid^=stPageLink]")
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey || link.pathname === location.pathname) return
  places.from = location.pathname
}

// On the way to another page, Streamlit writes that page's link behind the address of the old one, then the new
// address: two places to go back to, the first of which never was. They become one, and so do an address without a
// link, where the new page came first, and the same with its link.
function joined(push) {
  return function (state, title, url) {
    const place = new URL(url, location), isHere = place.pathname === location.pathname
    if (isHere && places.leaving()) places.link = place.search
    else if (isHere && !location.search) history.replaceState(state, title, place)
    else {
      if (!isHere && places.link) place.search = places.link
      places.link = null
      push.call(history, state, title, place)
    }
  }
}

if (!places.watching) {
  history.pushState = joined(history.pushState)
  document.addEventListener("click", leave, true)
  window.addEventListener("popstate", () => { places.from = null })
}
places.watching = true

export default function () {}
