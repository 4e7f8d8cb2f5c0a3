"""`make pictures`: every page, light and dark, at 1440, 1280, 800 and 390 pixels, into build/pictures."""

from __future__ import annotations

from bench.browser import ROOT, chromium, open_page, serving

PAGES = sorted(path.stem for path in (ROOT / "pages").glob("[a-z]*.py"))
TALLEST = 4500  # pixels


def main() -> None:
    folder = ROOT / "build" / "pictures"
    folder.mkdir(parents=True, exist_ok=True)
    with serving("pages/parts/serve.py") as address, chromium() as browser:
        for scheme in ("light", "dark"):
            for width in (1440, 1280, 800, 390):
                for name in PAGES:
                    page = open_page(
                        browser, f"{address}/{'' if name == 'overview' else name}", width, scheme
                    )
                    height = page.evaluate("document.querySelector('[data-testid=stMain]').scrollHeight")
                    page.set_viewport_size({"width": width, "height": min(height + 40, TALLEST)})
                    page.wait_for_timeout(2000)
                    page.screenshot(path=folder / f"{name}-{scheme}-{width}.png")
                    page.context.close()
    print(f"wrote {len(list(folder.glob('*.png')))} pictures to {folder}")


if __name__ == "__main__":
    main()
