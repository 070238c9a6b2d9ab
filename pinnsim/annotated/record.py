"""What pinnsim writes into an AnnData object, and how.

Everything has a name that begins with `pinnsim_`; what a user wrote is never changed. A step computes first and writes
at its end, so that one which fails leaves the object as it was. In place it returns nothing, with `copy=True` a new
object. Parameters of step s are kept under `uns["pinnsim_s"]` in plain numbers, texts and arrays, which AnnData writes
to `.h5ad` and reads back.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import numpy as np
from pydantic import BaseModel

from pinnsim.errors import PinnsimError, Problems, did_you_mean, first
from pinnsim.network import Network
from pinnsim.treatment import Treatment

PREFIX = "pinnsim_"
TIME, CONDITION, SIZE = "pinnsim_time", "pinnsim_condition", "pinnsim_size_factor"
SELECTED, HALF_LIFE = "pinnsim_selected", "pinnsim_half_life"
TIMES, SIZES, GENES, NETWORK, HALF_LIVES = (
    "pinnsim_times",
    "pinnsim_size_factors",
    "pinnsim_genes",
    "pinnsim_network",
    "pinnsim_half_lives",
)
FIT, SIMULATION, PERTURB, LANDSCAPE, FATE, TRANSITION = (
    "pinnsim_fit",
    "pinnsim_simulation",
    "pinnsim_perturb",
    "pinnsim_landscape",
    "pinnsim_fate",
    "pinnsim_transition",
)
# Which step writes a name, for those who ask for it too early.
_STEPS = {
    **{TIME: "pp.times", CONDITION: "pp.times", TIMES: "pp.times", SIZE: "pp.size_factors", SIZES: "pp.size_factors"},
    **{SELECTED: "pp.select_genes", GENES: "pp.select_genes", NETWORK: "pp.select_genes"},
    **{HALF_LIFE: "pp.half_lives", HALF_LIVES: "pp.half_lives", FIT: "tl.fit", SIMULATION: "tl.simulate"},
    **{PERTURB: "tl.perturb", LANDSCAPE: "tl.landscape", FATE: "tl.fate", TRANSITION: "tl.transition_matrix"},
}
_SAFE = re.compile(r"[A-Za-z0-9_.+-]+")  # names that every file format takes as a name


def check_object(adata: Any, copy: bool = False) -> None:
    """**Raises** `E_EXTRA_MISSING` where anndata is not installed, `E_USAGE` for what is no AnnData object, and for a
    copy of one that was left on the disk."""
    try:
        from anndata import AnnData
    except ImportError as error:
        raise PinnsimError.of(
            "E_EXTRA_MISSING", "this needs the package anndata; install it with pip install anndata."
        ) from error
    if not isinstance(adata, AnnData):
        raise PinnsimError.of(
            "E_USAGE",
            f"Argument `adata` must be an AnnData object, but is {type(adata).__name__}; read a file with "
            "anndata.read_h5ad.",
        )
    if copy and adata.isbacked:
        raise PinnsimError.of(
            "E_USAGE", "An object left on the disk (backed) is not copied; use copy=False, or adata.to_memory() first."
        )


def check_key(problems: Problems, key: str) -> None:
    """Adds `E_USAGE` for a name of results that does not begin with `pinnsim_`, or that a file could not hold."""
    if not key.startswith(PREFIX) or not _SAFE.fullmatch(key):
        problems.add(
            "E_USAGE",
            f"Argument `key_added` is '{key}'; results begin with '{PREFIX}' and go on with letters, digits and _.+-",
        )


def check_names(problems: Problems, names: Sequence[str], what: str) -> None:
    """Adds `E_USAGE` for names that a file could not hold."""
    bad = [name for name in names if not _SAFE.fullmatch(name)]
    if bad:
        problems.add("E_USAGE", f"{what} {first(repr(name) for name in bad)}: use letters, digits and _.+- only.")


def check_entry(problems: Problems, adata: Any, place: str, key: str) -> bool:
    """Whether `adata.<place>` has `key`; adds `E_COLUMN_MISSING` with the step that writes it, where it has not."""
    there = [str(name) for name in getattr(adata, place)]
    if key in there:
        return True
    step = _STEPS.get(key)
    remedy = f"run pinnsim.{step} first" if step else f"it has {first(there, 8) or 'nothing'}"
    problems.add("E_COLUMN_MISSING", f"`{place}` has no '{key}'{did_you_mean(key, there)}; {remedy}.")
    return False


def entry(adata: Any, key: str) -> Any:
    """`uns[key]`. **Raises** `E_COLUMN_MISSING` with the step that writes it."""
    with Problems() as problems:
        check_entry(problems, adata, "uns", key)
    return adata.uns[key]


def check_unique(problems: Problems, adata: Any) -> None:
    """Adds `E_GENE_DUPLICATE`, `E_SAMPLE_DUPLICATE` for repeated names."""
    for place, code, remedy in (
        ("var_names", "E_GENE_DUPLICATE", "var_names_make_unique"),
        ("obs_names", "E_SAMPLE_DUPLICATE", "obs_names_make_unique"),
    ):
        names = getattr(adata, place)
        twice = names[names.duplicated()].unique()
        if len(twice):
            problems.add(code, f"{len(twice)} of `{place}` occur more than once ({first(twice)}); use {remedy}().")


def check_layers(problems: Problems, adata: Any, layers: Sequence[str]) -> None:
    """Adds `E_LAYER_MISSING` for layers that are not there ("X" is the main matrix), `E_USAGE` for none."""
    # anndata 0.13 lists X among the layers, without a name.
    there = [*filter(None, adata.layers), *(["X"] if adata.X is not None else [])]
    for name in layers:
        if name not in there:
            problems.add("E_LAYER_MISSING", f"'{name}' not in {sorted(there)}{did_you_mean(name, there)}.")
    if not layers:
        problems.add("E_USAGE", f"Argument `layers` names none; choose of {sorted(there)}.")


def layer_of(adata: Any, name: str) -> Any:
    """A layer, or the main matrix for "X"."""
    return adata.X if name == "X" else adata.layers[name]


def write(adata: Any, copy: bool, **places: Mapping[str, Any]) -> Any:
    """Writes entries, `obs={"pinnsim_time": ...}` and so on, into the object and returns nothing, or into a copy, which
    it returns."""
    target = adata.copy() if copy else adata
    for place, entries in places.items():
        holder = getattr(target, place)
        for key, value in entries.items():
            holder[key] = value
    return target if copy else None


def plain(value: Any) -> Any:
    """A setting as numbers, texts, arrays and dictionaries of these, which AnnData can write."""
    if value is None:
        return "none"
    if isinstance(value, BaseModel):
        return value.model_dump_json()
    if isinstance(value, Treatment | Path):
        return str(value)
    if isinstance(value, eqx.Module):
        return repr(value)
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, str | bool | int | float | np.generic):
        return value
    array = np.asarray(value)
    return texts(array.tolist()) if array.dtype.kind in "OUS" else array


def texts(names: Sequence[Any] | np.ndarray) -> np.ndarray:
    """Names as an array of texts, of the kind that comes back from a file."""
    return np.array([str(name) for name in names], dtype=object)


def network_entry(network: Network) -> dict[str, np.ndarray]:
    """A network in arrays, one entry per edge."""
    return {
        "genes": texts(network.genes),
        "regulators": texts(network.regulators),
        "source": np.asarray(network.source),
        "target": np.asarray(network.target),
        "sign": np.asarray(network.sign, dtype=float),
        "confidence": np.asarray(network.confidence, dtype=float),
        "kind": texts(network.kind),
        "origin": texts(network.origin),
    }


def network_of(kept: Mapping[str, Any]) -> Network:
    """The network of `network_entry`."""
    names = {key: tuple(str(name) for name in kept[key]) for key in ("genes", "regulators", "kind", "origin")}
    return Network(
        source=np.asarray(kept["source"], dtype=np.int64),
        target=np.asarray(kept["target"], dtype=np.int64),
        sign=np.asarray(kept["sign"], dtype=float),
        confidence=np.asarray(kept["confidence"], dtype=float),
        **names,
    )
