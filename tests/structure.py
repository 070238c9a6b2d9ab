"""The house rules that a machine can check: floors, abstract-or-final classes, no executed text, sizes, docstrings.

Every check reads source text (`ast`), imports nothing, takes the root folder of a checkout and returns one line per
violation, so that `test_structure.py` can run it on the checkout itself and on a small house with a planted violation.
Sources of the rules: the map of floors in CONTRIBUTING.md, and the "abstract or final" pattern of equinox
(https://docs.kidger.site/equinox/pattern/).
"""

import ast
import graphlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

# A unit is a file or a folder directly under pinnsim/. It imports units of lower floors, itself, and units of its own
# floor where that makes no circle.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("shapes", "units", "errors", "texttable", "tree", "parameter", "store", "precision", "lanes", "random"),
    ("network", "table", "data", "treatment", "perturbation", "prior"),
    ("dynamics", "distance", "observation", "model"),
    ("simulate",),
    ("fit", "score", "operator", "latent"),
    ("landscape",),
    ("sweep", "design", "reprogramming", "screen"),
    (
        *(
            "formats",
            "shelf",
            "plot",
            "project",
            "campaign",
            "judge",
            "study",
            "report",
            "session",
            "doctor",
            "experiment",
            "benchmark",
            "specimens",
            "demo",
            "cli",
        ),
        "__main__",
    ),
)
FLOOR = {unit: number for number, units in enumerate(FLOORS, start=1) for unit in units}
SOLE_IMPORTERS = {"diffrax": {"simulate"}, "optax": {"fit", "operator"}}

MAX_LINES = 400
MIN_SIBLINGS = 3

FORBIDDEN_MODULES = {"pickle", "_pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__"}
FORBIDDEN_NAMES = {"sympify", "parse_expr", "lambdify", "read_pickle", "to_pickle"}

# Libraries whose classes are equinox modules: a base from them is `eqx.Module` itself or an abstract class.
MODULE_LIBRARIES = {"equinox", "diffrax", "optimistix", "lineax"}
OPEN_BASES = {"equinox.Module", "equinox.Enumeration"}


@dataclass(frozen=True)
class Source:
    """One Python file of a checkout."""

    root: Path
    path: Path

    @property
    def place(self) -> str:
        return self.path.relative_to(self.root).as_posix()

    @property
    def dotted(self) -> str:
        parts = self.path.relative_to(self.root).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    @property
    def unit(self) -> str:
        """Name of the file or folder directly under pinnsim/; empty for the package's own `__init__`."""
        return self.dotted.partition(".")[2].partition(".")[0]

    @cached_property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, filename=str(self.path))

    @cached_property
    def imports(self) -> list[tuple[str, str, str, int]]:
        """Every import at any depth as `(module, name, local name, line)`; `name` is empty for `import module`."""
        found = []
        package = self.dotted.split(".") if self.path.stem == "__init__" else self.dotted.split(".")[:-1]
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    local = alias.asname or alias.name.partition(".")[0]
                    found.append((alias.name, "", local, node.lineno))
            elif isinstance(node, ast.ImportFrom):
                above = package[: len(package) - node.level + 1] if node.level else []
                module = ".".join([*above, *([node.module] if node.module else [])])
                found += [(module, alias.name, alias.asname or alias.name, node.lineno) for alias in node.names]
        return found

    @cached_property
    def names(self) -> dict[str, str]:
        """What a local name stands for: `eqx` -> `equinox`, `Dataset` -> `pinnsim.data.dataset.Dataset`."""
        names = {node.name: f"{self.dotted}.{node.name}" for node in self.tree.body if isinstance(node, ast.ClassDef)}
        for module, name, local, _ in self.imports:
            whole = module if module.partition(".")[0] != local else local
            names[local] = f"{module}.{name}" if name else whole
        return names


def sources(root: Path, *folders: str) -> list[Source]:
    """The Python files of `folders` under `root`, in a fixed order."""
    paths = (path for folder in folders for path in sorted((root / folder).rglob("*.py")))
    return [Source(root, path) for path in paths if "__pycache__" not in path.parts]


def _units_imported(source: Source) -> list[tuple[int, str]]:
    """Units of pinnsim that a file imports, as `(line, unit)`; the package's front door is the empty unit."""
    found = set()
    for module, name, _, line in source.imports:
        head, _, rest = module.partition(".")
        if head == "pinnsim" and (module, name) != ("pinnsim", "__version__"):
            found.add((line, (rest or name).partition(".")[0]))
    return sorted(found)


def floors(root: Path) -> list[str]:
    """Imports go to lower floors, the own folder, or the own floor without a circle; diffrax and optax stay home."""
    violations = []
    edges: dict[str, set[str]] = {}
    for source in sources(root, "pinnsim"):
        if not source.unit:
            continue  # the package's `__init__` is the front door: it stands on every floor
        if source.unit not in FLOOR:
            remedy = "give it one in tests/structure.py and CONTRIBUTING.md"
            violations.append(f"{source.place}: '{source.unit}' has no floor; {remedy}")
            continue
        for line, unit in _units_imported(source):
            if unit not in FLOOR:
                what = f"'{unit}', which has no floor" if unit else "the package's front door"
                violations.append(f"{source.place}:{line}: imports {what}; import from the file that defines the name")
            elif FLOOR[unit] > FLOOR[source.unit]:
                up = f"'{source.unit}' (floor {FLOOR[source.unit]}) imports '{unit}' (floor {FLOOR[unit]})"
                violations.append(f"{source.place}:{line}: {up}")
            elif unit != source.unit:
                edges.setdefault(source.unit, set()).add(unit)
        for module, _, _, line in source.imports:
            library = module.partition(".")[0]
            if source.unit not in SOLE_IMPORTERS.get(library, {source.unit}):
                homes = " and ".join(f"{home}/" for home in sorted(SOLE_IMPORTERS[library]))
                violations.append(f"{source.place}:{line}: imports {library}, which only {homes} may")
    try:
        graphlib.TopologicalSorter(edges).prepare()
    except graphlib.CycleError as error:
        violations.append(f"pinnsim: units import each other in a circle: {' -> '.join(error.args[1])}")
    return violations


@dataclass(frozen=True)
class Class:
    """A class of the package with the full names of its bases."""

    source: Source
    node: ast.ClassDef
    bases: tuple[str, ...]

    @property
    def place(self) -> str:
        return f"{self.source.place}:{self.node.lineno}: {self.node.name}"

    @property
    def fields(self) -> list[ast.AnnAssign]:
        return [item for item in self.node.body if isinstance(item, ast.AnnAssign)]

    @property
    def methods(self) -> list[ast.FunctionDef]:
        return [item for item in self.node.body if isinstance(item, ast.FunctionDef)]


def _decorated(node: ast.FunctionDef | ast.ClassDef, name: str) -> bool:
    return any(name in ast.unparse(decorator).partition("(")[0].split(".") for decorator in node.decorator_list)


def _is_abstract_name(full_name: str) -> bool:
    return full_name.rpartition(".")[2].lstrip("_").startswith("Abstract")


def _is_abstract_variable(field: ast.AnnAssign) -> bool:
    annotation = ast.unparse(field.annotation).strip("'\"").partition("[")[0]
    return annotation.rpartition(".")[2] in {"AbstractVar", "AbstractClassVar"}


def _classes(files: list[Source]) -> dict[str, Class]:
    """All top-level classes by full name, their bases followed through re-exports to where they are defined."""
    by_name = {source.dotted: source for source in files}

    def origin(full_name: str) -> str:
        for _ in range(10):  # a chain of re-exports, bounded so that a circular one ends
            module, _, name = full_name.rpartition(".")
            target = by_name[module].names.get(name, full_name) if module in by_name else full_name
            if target == full_name:
                break
            full_name = target
        return full_name

    found = {}
    for source in files:
        for node in source.tree.body:
            if not isinstance(node, ast.ClassDef):
                continue
            bases = []
            for base in node.bases:
                dotted = ast.unparse(base.value if isinstance(base, ast.Subscript) else base)
                head, dot, rest = dotted.partition(".")
                bases.append(origin(source.names.get(head, head) + dot + rest))
            found[f"{source.dotted}.{node.name}"] = Class(source, node, tuple(bases))
    return found


def abstract_or_final(root: Path) -> list[str]:
    """Equinox modules and dataclasses: bases are abstract and hold nothing concrete; no field recompiles by value."""
    classes = _classes(sources(root, "pinnsim", "experiments"))

    def is_module(name: str) -> bool:
        if name in classes:
            return any(is_module(base) for base in classes[name].bases)
        return name != "equinox.Enumeration" and name.partition(".")[0] in MODULE_LIBRARIES

    violations = []
    for name, cls in classes.items():
        if not (is_module(name) or _decorated(cls.node, "dataclass")):
            continue
        for base in cls.bases:
            known = base in classes or base.partition(".")[0] in MODULE_LIBRARIES
            if known and base not in OPEN_BASES and not _is_abstract_name(base):
                violations.append(f"{cls.place} subclasses the concrete class {base}")
        abstract_methods = [method for method in cls.methods if _decorated(method, "abstractmethod")]
        if _is_abstract_name(name):
            concrete = [method.name for method in cls.methods if method not in abstract_methods]
            plain = [ast.unparse(field.target) for field in cls.fields if not _is_abstract_variable(field)]
            if concrete or plain:
                violations.append(f"{cls.place} is abstract but holds concrete {', '.join(concrete + plain)}")
        elif abstract_methods:
            violations.append(f"{cls.place} has abstract methods: call it Abstract{cls.node.name}")
        if is_module(name):
            violations += _field_violations(cls)
    return violations


def _field_violations(cls: Class) -> list[str]:
    violations = []
    for field in cls.fields:
        place = f"{cls.place}.{ast.unparse(field.target)}"
        if "float" in ast.unparse(field.annotation).strip("'\"").split(" | "):
            violations.append(f"{place} is a float: each value would recompile, make it an array")
        if field.value and any(isinstance(node, ast.Lambda) for node in ast.walk(field.value)):
            violations.append(f"{place} defaults to a lambda: each instance would recompile")
    return violations


def executed_text(root: Path) -> list[str]:
    """No pickle, no evaluated text, anywhere that users' files are read."""
    violations = []
    for source in sources(root, "pinnsim", "experiments"):
        for module, name, _, line in source.imports:
            for word in {module.partition(".")[0], name} & (FORBIDDEN_MODULES | FORBIDDEN_NAMES):
                violations.append(f"{source.place}:{line}: imports {word}")
        for node in ast.walk(source.tree):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                if called in FORBIDDEN_CALLS or called.rpartition(".")[2] in {"eval", "exec"}:
                    violations.append(f"{source.place}:{node.lineno}: calls {called}")
            elif isinstance(node, ast.keyword):
                if node.arg == "allow_pickle" and ast.unparse(node.value) != "False":
                    violations.append(f"{source.place}:{node.value.lineno}: passes {ast.unparse(node)}")
            elif isinstance(node, ast.Attribute) and node.attr in FORBIDDEN_NAMES:
                violations.append(f"{source.place}:{node.lineno}: uses {ast.unparse(node)}")
    return violations


def long_files(root: Path) -> list[str]:
    """A file is one noun or one verb: past `MAX_LINES` it is two ideas."""
    files = sources(root, "pinnsim", "experiments", "tests", ".ci")
    counts = [(source.place, len(source.text.splitlines())) for source in files]
    return [f"{place}: {count} lines, more than {MAX_LINES}" for place, count in counts if count > MAX_LINES]


def missing_docstrings(root: Path) -> list[str]:
    """Every file opens with what it is for."""
    files = sources(root, "pinnsim", "experiments", "tests", ".ci")
    return [f"{source.place}: has no opening docstring" for source in files if not ast.get_docstring(source.tree)]


def small_folders(root: Path) -> list[str]:
    """A folder exists only where `MIN_SIBLINGS` files or folders share an idea; folders of data are free."""
    violations = []
    for folder in sorted({source.path.parent for source in sources(root, "pinnsim")} - {root / "pinnsim"}):
        siblings = [path for path in folder.iterdir() if path.suffix == ".py" and path.stem != "__init__"]
        siblings += [path for path in folder.iterdir() if path.is_dir() and any(path.glob("*.py"))]
        if len(siblings) < MIN_SIBLINGS:
            place = folder.relative_to(root).as_posix()
            violations.append(f"{place}/: {len(siblings)} siblings, fewer than {MIN_SIBLINGS}; make it one file")
    return violations
