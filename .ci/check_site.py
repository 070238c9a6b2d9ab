"""Checks the built documentation as a reader without a network would find it.

Every relative link and picture resolves, to its fragment too; nothing is loaded from another host; every picture has a
text; every equation became MathML.

    python .ci/check_site.py build/docs
"""

import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

# Attributes that make a browser fetch something, by tag; links that a reader clicks may lead outside.
FETCHED = {"img": "src", "script": "src", "link": "href", "iframe": "src", "source": "src", "video": "src"}


class Page(HTMLParser):
    """What one page names: `(tag, address)`, its own anchors, pictures without a text, equations not drawn."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.addresses: list[tuple[str, str]] = []
        self.anchors: set[str] = set()
        self.silent: list[str] = []
        self.equations = 0
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors.update(given[name] for name in ("id", "name") if given.get(name))
        self.equations += tag == "math"
        where = "href" if tag == "a" else FETCHED.get(tag)
        if where and given.get(where):
            self.addresses.append((tag, given[where]))
        if tag == "img" and not given.get("alt") and given.get("role") != "presentation":
            self.silent.append(given.get("src", "?"))


def pages_of(site: Path) -> list[Path]:
    """All pages, without the theme's own templates."""
    return [path for path in sorted(site.rglob("*.html")) if "_static" not in path.relative_to(site).parts]


def problems(site: Path) -> Iterator[str]:
    """A line for everything that is wrong with a built site."""
    pages = {path.resolve(): Page(path) for path in pages_of(site)}
    if not pages:
        yield f"{site} holds no page"
    for page in pages.values():
        place = page.path.relative_to(site)
        yield from (f"{place}: picture without a text: {source}" for source in page.silent)
        for tag, address in page.addresses:
            parts = urlsplit(address)
            if parts.scheme == "data":
                continue
            if parts.scheme or parts.netloc:
                if tag != "a":
                    yield f"{place}: <{tag}> is loaded from elsewhere: {address}"
                continue
            target = (page.path.parent / unquote(parts.path)).resolve() if parts.path else page.path.resolve()
            if target.is_dir():
                target = target / "index.html"
            if not target.exists():
                yield f"{place}: leads nowhere: {address}"
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors:
                yield f"{place}: no such place: {address}"


def main() -> int:
    site = Path(sys.argv[1])
    found = list(problems(site))
    print(*found, sep="\n")
    pages = [Page(path) for path in pages_of(site)]
    links = sum(len(page.addresses) for page in pages)
    equations = sum(page.equations for page in pages)
    print(f"{len(pages)} pages, {links} links and files, {equations} equations, {len(found)} problems")
    return bool(found)


if __name__ == "__main__":
    raise SystemExit(main())
