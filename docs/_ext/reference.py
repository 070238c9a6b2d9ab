"""The pages of the API, written from the source: a markdown entry per public name of a module.

A docstring of the house is markdown already: one line, equations as indented blocks, then `**Arguments:**`,
`**Returns**`, `**Raises**`. An entry is that text below the signature as it stands in the source (so that shapes are
shown by their names), with the arguments as a list. Nothing here needs Sphinx.
"""

import ast
import dataclasses
import functools
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

_SECTION = re.compile(r"(?<=\S)\s+(?=\*\*(?:Arguments|Returns|Raises|Writes|Source)\b[^*]*\*\*)")
_ARGUMENT = re.compile(r"[;.]\s+(?=`\w+`(?:, `\w+`)*(?: \([^)]*\))?(?::|, |\s))")


def public_names(module: ModuleType) -> list[str]:
    """`__all__`, or what a module without it defines and documents; submodules are not names."""
    if hasattr(module, "__all__"):
        found = list(module.__all__)
    else:
        found = [
            name
            for name, value in vars(module).items()
            if not name.startswith("_")
            and getattr(value, "__module__", None) == module.__name__
            and (inspect.isclass(value) or inspect.isfunction(value))
        ]
    return [name for name in found if not inspect.ismodule(getattr(module, name)) and not name.startswith("_")]


def module_page(dotted: str) -> str:
    """Markdown of a module: its first docstring, an entry per public name: verbs, then nouns, then what is abstract."""
    module = importlib.import_module(dotted)
    own = dotted.rpartition(".")[2]
    names = sorted(
        public_names(module), key=lambda name: (name != own, _order(name, getattr(module, name)), name.lower())
    )
    parts = [markdown(inspect.getdoc(module) or ""), *(entry(module, name) for name in names)]
    return "\n\n".join(parts)


def _order(name: str, value: Any) -> int:
    if name.startswith("Abstract"):
        return 3
    return 1 if inspect.isclass(value) else 0 if callable(value) else 2


def entry(module: ModuleType, name: str) -> str:
    """Markdown of one public name: a directive of Sphinx's Python domain with the docstring inside."""
    value = getattr(module, name)
    if inspect.isclass(value):
        return _directive("class", module.__name__, name, _fields(value), [_text(value), *_members(value)])
    if callable(value) and hasattr(value, "__name__"):
        return _directive("function", module.__name__, name, _signature(value), [_text(value)])
    told = _said_below(module, name)
    return _directive("data", module.__name__, name, "", [markdown(told)] if told else [])


def markdown(doc: str) -> str:
    """A docstring as markdown: sections apart, arguments as a list, sessions of Python as code."""
    blocks = re.split(r"\n\s*\n", inspect.cleandoc(doc)) if doc else []
    return "\n\n".join(_block(block) for block in blocks)


def _block(block: str) -> str:
    if block.startswith(">>> "):
        return f"```pycon\n{block}\n```"
    if block.startswith("    "):
        return block
    parts = _SECTION.split(block)
    return "\n\n".join(_arguments(part) if part.startswith("**Arguments") else part for part in parts)


def _arguments(text: str) -> str:
    head = re.match(r"\*\*Arguments:?\*\*:?\s*", text)
    assert head is not None
    items = _ARGUMENT.split(text[head.end() :])
    if len(items) < 2:
        return text
    return "**Arguments**\n\n" + "\n".join(f"- {' '.join(item.split())}" for item in items)


def _directive(kind: str, module: str, name: str, signature: str, body: list[str], *, inner: bool = False) -> str:
    fence = "````" if inner else "`````"
    options = "" if inner else f":module: {module}\n"
    return f"{fence}{{py:{kind}}} {name}{signature}\n{options}\n" + "\n\n".join(body) + f"\n{fence}"


def _members(owner: type) -> Iterator[str]:
    """Public methods and properties that the class itself defines; an override shows the abstract method's text."""
    for name, value in vars(owner).items():
        if name.startswith("_") and not (name == "__call__" and inspect.isfunction(value)):
            continue
        plain: Any = value.__func__ if isinstance(value, classmethod | staticmethod) else value
        plain = inspect.unwrap(plain) if callable(plain) else plain
        text = markdown(inspect.getdoc(getattr(owner, name, None)) or "")
        if isinstance(value, property | functools.cached_property):
            yield _directive("property", "", name, "", [text], inner=True)
        elif inspect.isfunction(plain) and text:
            kind = {classmethod: "classmethod", staticmethod: "staticmethod"}.get(type(value), "method")
            yield _directive(kind, "", name, _signature(plain), [text], inner=True)


def _text(value: Any) -> str:
    own = value.__doc__ if inspect.isclass(value) else inspect.getdoc(value)
    if inspect.isclass(value) and dataclasses.is_dataclass(value) and (own or "").startswith(f"{value.__name__}("):
        own = ""  # what dataclasses write where nobody did
    return markdown(own or "")


def _signature(function: Any) -> str:
    """The arguments as they are written in the source."""
    node = _definition(inspect.unwrap(function))
    if node is None:
        return "()"
    arguments = node.args
    for group in (arguments.posonlyargs, arguments.args):
        if group and group[0].arg in ("self", "cls"):
            del group[0]
    returns = f" -> {ast.unparse(node.returns)}" if node.returns is not None else ""
    return f"({ast.unparse(arguments)}){returns}"


def _definition(function: Any) -> ast.FunctionDef | None:
    try:
        source = inspect.getsource(function)
    except (OSError, TypeError):
        return None
    first = ast.parse(inspect.cleandoc(f"\n{source}") if source[0] in " \t" else source).body[0]
    return first if isinstance(first, ast.FunctionDef) else None


def _fields(owner: type) -> str:
    """The fields of a class of values, or the arguments of its `__init__`."""
    made = vars(owner).get("__init__")
    if made is not None and inspect.isfunction(made) and _definition(made) is not None:
        return _signature(made).partition(" -> ")[0]
    try:
        tree = ast.parse(inspect.getsource(owner)).body[0]
    except (OSError, TypeError):
        return ""
    if not isinstance(tree, ast.ClassDef):
        return ""
    shown = [
        f"{line.target.id}: {ast.unparse(line.annotation)}{_default(line)}"
        for line in tree.body
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name) and not line.target.id.startswith("_")
    ]
    return f"({', '.join(shown)})" if shown else ""


def _default(line: ast.AnnAssign) -> str:
    """`= value` where a field has one; what says only how a field is kept is none."""
    value = line.value
    if not isinstance(value, ast.Call):
        return f" = {ast.unparse(value)}" if value is not None else ""
    return " = ..." if any(word.arg in ("default", "default_factory") for word in value.keywords) else ""


def _said_below(module: ModuleType, name: str) -> str:
    """The text below a constant, in the file that defines it."""
    for home in _homes(module, name):
        body = ast.parse(inspect.getsource(home)).body
        for line, after in zip(body, body[1:], strict=False):
            targets = line.targets if isinstance(line, ast.Assign) else [getattr(line, "target", None)]
            named = any(isinstance(target, ast.Name) and target.id == name for target in targets)
            if named and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
                return str(after.value.value)
    return ""


def _homes(module: ModuleType, name: str) -> list[ModuleType]:
    found = [module]
    for line in ast.walk(ast.parse(inspect.getsource(module))):
        if isinstance(line, ast.ImportFrom) and line.module and any(alias.name == name for alias in line.names):
            found.append(importlib.import_module(line.module))
    return found


def shown_modules(folder: Path) -> dict[str, str]:
    """Modules that the pages of a folder show by `{generated} api MODULE`, with the page's name."""
    return {
        module: page.stem
        for page in sorted(folder.glob("*.md"))
        for module in re.findall(r"^```\{generated\} api ([\w.]+)$", page.read_text(encoding="utf-8"), flags=re.M)
    }


def other_homes(folder: Path) -> list[str]:
    """Modules that `import pinnsim` fetches names from and that no page shows by itself."""
    shown = shown_modules(folder)
    return sorted(set(importlib.import_module("pinnsim")._HOMES.values()) - set(shown))


def other_pages(folder: Path) -> str:
    """Markdown: a table of contents of pages that `index.md` does not name; nothing where it names all."""
    index = (folder / "index.md").read_text(encoding="utf-8").splitlines()
    found = [page.stem for page in sorted(folder.glob("*.md")) if page.stem not in {"index", *index}]
    return "\n".join(["```{toctree}", ":maxdepth: 1", ":hidden:", "", *found, "```"]) if found else ""


def top_level(package: ModuleType) -> str:
    """A table of what `import pinnsim` offers, with the first line of each."""
    rows = []
    for name in package.__all__:
        if name.startswith("_"):
            continue
        value = getattr(package, name)
        doc = " ".join((inspect.getdoc(value) or "").partition("\n\n")[0].split())
        first = re.split(r"(?<=[a-z)`])\.\s", doc)[0].rstrip(".")
        kind = "module" if inspect.ismodule(value) else "class" if inspect.isclass(value) else "function"
        rows.append(f"| `pinnsim.{name}` | {kind} | {first.replace('|', chr(92) + '|')} |")
    return "\n".join(["| name | is | what for |", "|---|---|---|", *rows])


def shapes_page() -> str:
    """Markdown: what `pinnsim.shapes` says, and a row per name."""
    module = importlib.import_module("pinnsim.shapes")
    lines = [line for line in ast.parse(inspect.getsource(module)).body if isinstance(line, ast.Assign)]
    rows = [
        f"| `{ast.unparse(line.targets[0])}` | `{ast.unparse(line.value).replace('|', chr(92) + '|')}` |"
        for line in lines
    ]
    return "\n".join([markdown(inspect.getdoc(module) or ""), "", "| name | is |", "|---|---|", *rows])
