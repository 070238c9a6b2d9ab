"""PEtab out: a problem's files once more, with fitted numbers as the nominal ones."""

import math
import shutil
from pathlib import Path

import numpy as np

from pinnsim.errors import PinnsimError
from pinnsim.formats.petab.files import inside
from pinnsim.formats.petab.problem import PetabProblem, Values
from pinnsim.formats.petab.read import files_of
from pinnsim.store import replacing


def write_petab(problem: PetabProblem, folder: str | Path, values: Values = None) -> Path:
    """Writes a problem to a folder, with `values` as nominal parameters.

    **Arguments:** `folder`: a new or empty folder; `values`: as `PetabProblem` takes them, a fit's `best` for one.

    **Returns** the YAML file, which `read_petab` and other tools read. All tables but the parameters' are copied.

    **Raises** `E_DISK` where the folder is not empty, or cannot be written; `E_USAGE` for values that are no numbers.
    """
    target, source = Path(folder), problem.source
    fitted = problem.unscaled(values)
    if not all(math.isfinite(value) for value in fitted.values()):
        raise PinnsimError.of("E_USAGE", f"`values` holds numbers that are not finite: {fitted}.")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise PinnsimError.of("E_DISK", f"'{target}' is there and not empty; name a new folder.")
    home = source.path.parent
    with replacing(target) as temporary:
        temporary.mkdir(parents=True)
        shutil.copyfile(source.path, temporary / source.path.name)
        for kind, names in files_of(source.grouping, source.path).items():
            for name in names:
                place = inside(temporary, name)
                place.parent.mkdir(parents=True, exist_ok=True)
                if kind == "parameter":
                    place.write_text(_with_values(inside(home, name).read_text(encoding="utf-8-sig"), fitted))
                else:
                    shutil.copyfile(inside(home, name), place)
    return target / source.path.name


def _with_values(text: str, fitted: dict[str, float]) -> str:
    """A parameter table with other nominal values, and else as it was."""
    lines = text.splitlines()
    head = lines[0].split("\t")
    if "nominalValue" not in head:
        head.append("nominalValue")
    name, value = head.index("parameterId"), head.index("nominalValue")
    out = ["\t".join(head)]
    for line in lines[1:]:
        cells = line.split("\t") + [""] * (len(head) - len(line.split("\t")))
        if cells[name].strip() in fitted:
            cells[value] = repr(float(np.float64(fitted[cells[name].strip()])))
        out.append("\t".join(cells))
    return "\n".join(out) + "\n"
