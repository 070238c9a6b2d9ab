"""What the site needs of Sphinx: generated parts of pages, equations without a script, names that link to the API.

A page says where a generated part goes by a fenced block,

    ```{generated} api pinnsim.fit
    ```

which is replaced by markdown before the page is read. Equations become MathML, which browsers draw by themselves, so
that the site works without a network. Inline code that is a public name becomes a link to its entry.
"""

import html
import importlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import commands
import errors_table
import honest
import house
import reference
from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging
from sphinx.util.nodes import make_refnode

_log = logging.getLogger(__name__)
ROOT = Path(__file__).resolve().parent.parent.parent
API = ROOT / "docs" / "api"

PARTS: dict[str, Callable[..., str]] = {
    "api": reference.module_page,
    "other-homes": lambda: "\n\n".join(
        f"## {module}\n\n{reference.module_page(module)}" for module in reference.other_homes(API)
    ),
    "other-pages": lambda: reference.other_pages(ROOT / "docs"),
    "shapes": reference.shapes_page,
    "top-level": lambda: reference.top_level(importlib.import_module("pinnsim")),
    "results": lambda: honest.page(ROOT / "experiments"),
    "house": lambda: house.drawn((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")),
    "commands": commands.page,
    "error-codes": errors_table.page,
    "shelf": lambda: commands.shelf_table(ROOT / "models"),
}
# In the checkout a results file is the thing to link to; on the site, its section of the page of results.
_RESULT = re.compile(r"\]\((?:\.\./)*experiments/results/(\w+)\.json\)")
_BLOCK = re.compile(r"^```\{generated\} ([\w-]+)(?: ([\w.]+))?\n```$", flags=re.M)


def filled(text: str) -> str:
    """A page with its generated parts."""
    return _BLOCK.sub(lambda found: PARTS[found[1]](*([found[2]] if found[2] else [])), text)


def documented(folder: Path) -> list[tuple[str, str]]:
    """Modules that the pages of the API show, with the page's name."""
    return [
        *reference.shown_modules(folder).items(),
        *((module, "formats") for module in reference.other_homes(folder)),
    ]


def homes(folder: Path) -> dict[str, tuple[str, str]]:
    """Where a name is explained: `laplace`, `fit.laplace`, `pinnsim.fit.laplace` -> (page, identifier).

    A short name that two modules define links nowhere, unless it is that of one of them; its dotted forms do.
    """
    found: dict[str, tuple[str, str]] = {}
    shared: set[str] = set()
    for dotted, page in documented(folder):
        for name in reference.public_names(importlib.import_module(dotted)):
            place = (f"docs/api/{page}", f"{dotted}.{name}")
            parts = f"{dotted}.{name}".split(".")
            for k in range(len(parts)):
                short = ".".join(parts[k:])
                if found.setdefault(short, place) != place:
                    shared.add(short)
    package = importlib.import_module("pinnsim")
    for name, home in package._HOMES.items():
        if f"{home}.{name}" in found:
            found[f"pinnsim.{name}"] = found[f"{home}.{name}"]
    # `simulate(...)` alone is the verb of its own module, not that of `tl`.
    own = {name: found[f"pinnsim.{name}.{name}"] for name in shared if f"pinnsim.{name}.{name}" in found}
    return {name: place for name, place in found.items() if name not in shared} | own


class LinkedTypes(SphinxPostTransform):
    """Types in signatures: ours link to their entries, others (of numpy, jaxtyping, ...) are plain text."""

    default_priority = 5  # before Sphinx looks for them

    def run(self, **_: Any) -> None:
        known = self.env.pinnsim_homes  # type: ignore[attr-defined]
        for node in list(self.document.findall(addnodes.pending_xref)):
            if node.get("refdomain") != "py":
                continue
            target = node["reftarget"]
            place = known.get(f"{node.get('py:module')}.{target}", known.get(target))
            shown = node.children[0].deepcopy()
            link = place and make_refnode(self.app.builder, self.env.docname, *place, shown)
            node.replace_self(link or shown)


class LinkedNames(SphinxPostTransform):
    """Inline code that is a public name, called or not, links to the API."""

    default_priority = 400

    def run(self, **_: Any) -> None:
        known = self.env.pinnsim_homes  # type: ignore[attr-defined]
        for literal in list(self.document.findall(nodes.literal)):
            found = re.fullmatch(r"([A-Za-z_][\w.]*)(\(.*\))?", literal.astext(), flags=re.S)
            inside = literal.parent
            while inside is not None and not isinstance(inside, nodes.reference | nodes.title):
                inside = inside.parent
            if found is None or inside is not None or found[1] not in known:
                continue
            # A plain word such as `data` or `draws` is an argument's name more often than a function.
            if not found[2] and "." not in found[1] and found[1].islower() and "_" not in found[1]:
                continue
            page, target = known[found[1]]
            literal.replace_self(make_refnode(self.app.builder, self.env.docname, page, target, literal.deepcopy()))


def _read(_: Sphinx, page: str, source: list[str]) -> None:
    text = filled(source[0])
    if page != "docs/results":
        text = _RESULT.sub(lambda found: f"](#{honest.anchor(found[1])})", text)
    source[0] = text


def _gather(app: Sphinx, env: BuildEnvironment, _: Any) -> None:
    env.pinnsim_homes = homes(Path(app.confdir) / "api")  # type: ignore[attr-defined]


def _inline(writer: Any, node: nodes.math) -> None:
    writer.body.append(mathml(node, block=False))
    raise nodes.SkipNode


def _display(writer: Any, node: nodes.math_block) -> None:
    writer.body.append(f'<div class="equation" tabindex="0">{mathml(node, block=True)}</div>\n')
    raise nodes.SkipNode


def mathml(node: nodes.math | nodes.math_block, *, block: bool) -> str:
    """An equation as MathML; one that cannot be read is a warning with its place, and shown as it was written."""
    try:
        return tex2mathml(node.astext().strip(), as_block=block).replace("\n", "")
    except MathError as error:
        _log.warning("equation: %s", error, location=node)
        return f"<code>{html.escape(node.astext())}</code>"


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_html_math_renderer("mathml", (_inline, None), (_display, None))
    app.add_post_transform(LinkedTypes)
    app.add_post_transform(LinkedNames)
    app.connect("source-read", _read)
    app.connect("env-before-read-docs", _gather)
    return {"parallel_read_safe": False, "parallel_write_safe": True}
