"""A page in a real browser without a screen: what it asks the network for, what it complains of, how it lies on screens
of several widths, what who cannot see it is told, and how its text stands out from its ground.

Needs Chromium, its driver (Debian: chromium, chromium-driver) and the package selenium.
"""

import contextlib
import dataclasses
import importlib.util
import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

WIDTHS = (360, 1280)
LEAST_CONTRAST = 4.5

# Everything is measured in the page, on what the browser made of it.
MEASURE = """
const colour = text => {
  const n = text.match(/[\\d.]+/g).map(Number); return [n[0], n[1], n[2], n.length > 3 ? n[3] : 1]; };
const over = (top, below) => [0, 1, 2].map(k => top[k] * top[3] + below[k] * (1 - top[3])).concat([1]);
const bright = c => { const [r, g, b] = c.slice(0, 3).map(v => v / 255).map(
  v => v <= 0.04045 ? v / 12.92 : Math.pow((v + 0.055) / 1.055, 2.4)); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
const ground = element => { const layers = [];
  for (let e = element; e; e = e.parentElement) layers.push(colour(getComputedStyle(e).backgroundColor));
  const dark = matchMedia('(prefers-color-scheme: dark)').matches;
  return layers.reverse().reduce((below, top) => over(top, below), dark ? [0, 0, 0, 1] : [255, 255, 255, 1]); };
const contrast = element => { const below = ground(element);
  const a = bright(over(colour(getComputedStyle(element).color), below)), b = bright(below);
  return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05); };
const said = element => (element.tagName + ': ' + (element.textContent || element.alt || '').trim()).slice(0, 60);
const named = e => { const by = (e.getAttribute('aria-labelledby') || '').split(/\\s+/).filter(x => x)
    .map(id => document.getElementById(id)).map(x => x ? x.textContent : '').join(' ');
  const caption = e.tagName == 'TABLE' && e.caption ? e.caption.textContent : '';
  const own = ['A', 'BUTTON', 'H1', 'H2', 'H3'].includes(e.tagName) ? e.textContent : '';
  return [by, e.getAttribute('aria-label'), e.getAttribute('alt'), caption, own, e.title].some(x => x && x.trim()); };
const all = what => [...document.querySelectorAll(what)];
const box = e => { const r = e.getBoundingClientRect();
  return [r.left + scrollX, r.top + scrollY, r.right + scrollX, r.bottom + scrollY]; };
const meet = (a, b) =>
  Math.min(a[2], b[2]) - Math.max(a[0], b[0]) > 1 && Math.min(a[3], b[3]) - Math.max(a[1], b[1]) > 1;
const overlaps = []; let boxes = 0;
for (const groups of [all('body > header, body > nav, main > section, body > footer'),
                      ...all('header, section, footer').map(e => [...e.children])]) {
  const shown = groups.map(e => [e, box(e)]).filter(([e, b]) => b[2] > b[0] && b[3] > b[1]);
  boxes += shown.length;
  shown.forEach(([e, a], k) => shown.slice(k + 1).forEach(([f, b]) => {
    if (meet(a, b)) overlaps.push(said(e) + ' / ' + said(f)); })); }
const texts = []; const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walk.nextNode()) if (walk.currentNode.textContent.trim()) texts.push(walk.currentNode.parentElement);
const faint = [...new Set(texts)].map(e => [contrast(e), said(e)]).filter(([c]) => !(c >= LEAST));
const levels = all('h1, h2, h3, h4, h5, h6').map(e => Number(e.tagName[1]));
const shown = e => e.getBoundingClientRect().width > 0;
const escaping = all('body *').filter(e => shown(e) && !e.closest('.scroll, .picture') &&
  e.getBoundingClientRect().right > document.documentElement.clientWidth + 1 && !e.matches('.skip'));
return {
  width: innerWidth, page: document.documentElement.scrollWidth, seen: document.documentElement.clientWidth,
  escaping: escaping.map(said), boxes: boxes, overlaps: overlaps, texts: texts.length, faint: faint,
  images: all('img').length,
  unloaded: all('img').filter(e => !(e.complete && e.naturalWidth > 0)).map(said),
  nameless: all('img, a, table, button, input, select, [role=region], [role=group], nav, section')
    .filter(e => !named(e) && (e.tagName != 'SECTION' || e.querySelector('h2'))).map(said),
  lang: document.documentElement.lang, title: document.title, scripts: document.scripts.length,
  levels: levels, landmarks: ['header', 'main', 'footer'].map(x => all(x).length),
  cells: all('th:not([scope])').length, captionless: all('table').filter(e => !e.caption).length,
  unreachable: all('.scroll, .picture').filter(e => e.tabIndex < 0).length };
"""


@dataclasses.dataclass(frozen=True)
class Seen:
    """A page as a browser saw it.

    **Arguments:** `console`: errors and warnings; `requests`: addresses it asked for, beside its own and data; `views`:
    what `MEASURE` found, by (width, scheme).
    """

    console: list[str]
    requests: list[str]
    views: dict[tuple[int, str], dict[str, Any]]

    def problems(self) -> dict[str, list[str]]:
        """What is wrong, by kind; a list of nothing where nothing is."""
        found: dict[str, list[str]] = {"console": self.console, "requests": self.requests}
        kinds = ("unloaded", "nameless", "faint", "overlaps", "escaping", "sideways", "structure")
        found |= {kind: [] for kind in kinds}
        for view, saw in self.views.items():
            for kind in kinds[:5]:
                found[kind] += [f"{view}: {one}" for one in saw[kind]]
            if saw["page"] > saw["seen"]:
                found["sideways"].append(f"{view}: {saw['page']} pixels wide")
            found["structure"] += [f"{view}: {one}" for one in _structure(saw)]
        return found


def _structure(saw: dict[str, Any]) -> list[str]:
    """Headings in order, one of the first; landmarks; headers with scope; captions; language and title."""
    levels = saw["levels"]
    wrong = [f"a heading of level {b} follows {a}" for a, b in zip(levels, levels[1:], strict=False) if b > a + 1]
    if levels[:1] != [1] or levels.count(1) != 1:
        wrong.append(f"headings begin with {levels[:3]}")
    if saw["landmarks"] != [1, 1, 1]:
        wrong.append(f"landmarks {saw['landmarks']}")
    for name in ("cells", "captionless", "unreachable", "scripts"):
        if saw[name]:
            wrong.append(f"{saw[name]} {name}")
    return wrong + [f"no {name}" for name in ("lang", "title") if not saw[name]]


def lacking() -> str:
    """What the checks need and this machine has not, in a sentence; nothing where all is there."""
    missing = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    missing += ["the package selenium"] if importlib.util.find_spec("selenium") is None else []
    if not missing:
        return ""
    return f"no browser checks: {' and '.join(missing)} not found (Debian: apt install chromium chromium-driver)"


@contextlib.contextmanager
def browser() -> Iterator[Any]:
    """A Chromium of its own, with an empty profile."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = str(shutil.which("chromium"))
        flags = (
            *("headless=new", "no-sandbox", "disable-gpu", "disable-background-networking", "disable-dev-shm-usage"),
            *(
                "disable-component-update",
                "disable-sync",
                "no-first-run",
                "hide-scrollbars",
                f"user-data-dir={profile}",
            ),
        )
        for flag in flags:
            options.add_argument(f"--{flag}")
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        driver = webdriver.Chrome(options, Service(str(shutil.which("chromedriver"))))
        try:
            yield driver
        finally:
            driver.quit()


def look(driver: Any, path: Path, *, dark: bool = True, pictures: Path | None = None) -> Seen:
    """Opens a page and measures it at every width, by day and, with `dark`, by night.

    **Arguments:** `pictures`: a folder for a screenshot of each view.
    """
    driver.get("about:blank")  # leaves the browser's own first page, which asks for a lot
    for log in ("browser", "performance"):
        driver.get_log(log)
    address = path.resolve().as_uri()
    views = {}
    for width in WIDTHS:
        # The window cannot be as narrow as a phone; the view can.
        driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600},
        )
        for scheme in ("light", "dark") if dark else ("light",):
            media = [{"name": "prefers-color-scheme", "value": scheme}]
            driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": media})
            driver.get("about:blank")
            driver.get(address)
            _wait(driver)
            views[width, scheme] = driver.execute_script(MEASURE.replace("LEAST", str(LEAST_CONTRAST)))
            if pictures is not None:
                _screenshot(driver, pictures / f"{path.stem}_{width}_{scheme}.png")
    console = [entry["message"] for entry in driver.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]
    requests = []
    for entry in driver.get_log("performance"):
        event = json.loads(entry["message"])["message"]
        if event["method"] == "Network.requestWillBeSent" and event["params"]["documentURL"] != "about:blank":
            requests.append(event["params"]["request"]["url"])
    foreign = [url for url in requests if not url.startswith("data:") and url.partition("#")[0] != address]
    return Seen(console, foreign, views)


def _wait(driver: Any, longest: float = 60.0) -> None:
    """Until all of the page is there, which a busy machine may take its time for."""
    began = time.monotonic()
    while driver.execute_script("return document.readyState") != "complete" and time.monotonic() < began + longest:
        time.sleep(0.05)


def _screenshot(driver: Any, path: Path) -> None:
    import base64

    shot = driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "format": "png"})
    path.write_bytes(base64.b64decode(shot["data"]))
