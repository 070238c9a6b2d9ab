"""A model bundle: a folder from which a model comes back bit for bit, or not at all.

    model.toml              what the model is: enough to rebuild its structure, and readable
    parameters.safetensors  its numbers, under the paths of their leaves (see `pinnsim.store`)
    manifest.json           schema, versions, gene list, structure hash, data digest, sha256 of both files and of itself

The manifest is canonical text (sorted keys, fixed layout), so that no byte of the three files can change unseen. It
holds no date: equal models give equal bytes. Other files (a README card) may lie beside them. Saving replaces the
folder as a whole and keeps the one before as `<name>.previous`.
"""

import hashlib
import importlib.metadata
import json
import platform
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from pinnsim import __version__, store
from pinnsim.errors import PinnsimError, Problems, first
from pinnsim.formats.gene_kinetics import KIND, GeneKineticsFile, describe
from pinnsim.formats.toml import parse_config, parse_toml, to_toml
from pinnsim.model import CellModel, ModelConfig
from pinnsim.network import Network
from pinnsim.prior import KineticPrior
from pinnsim.tree import named_leaves, structure_hash, unstack

SCHEMA = 1

MODEL, PARAMETERS, MANIFEST = "model.toml", "parameters.safetensors", "manifest.json"

_KINDS = {KIND: GeneKineticsFile}
_LIBRARIES = ("jax", "equinox", "diffrax", "numpy")


@dataclass(frozen=True)
class Bundle:
    """A loaded bundle.

    **Arguments:** `model`, a single model, or `members` stacked ones with a leading lane axis on every array; `config`,
    `network` and `prior`, from which `build` makes its structure; `data_digest`, of the data it was fitted to ("" if it
    was not); `notes`, the author's own; `versions`, of the libraries that wrote it.
    """

    model: CellModel
    members: int | None
    config: ModelConfig
    network: Network
    prior: KineticPrior
    data_digest: str
    notes: dict[str, Any]
    versions: dict[str, str]

    @property
    def ensemble(self) -> CellModel:
        """All members stacked, (member, ...); a single model is an ensemble of one."""
        return self.model if self.members is not None else _repeated(self.model, 1)

    @property
    def models(self) -> list[CellModel]:
        """Every member on its own."""
        return unstack(self.ensemble)


def save_model(
    folder: str | Path,
    model: CellModel,
    config: ModelConfig,
    network: Network,
    prior: KineticPrior,
    *,
    data_digest: str = "",
    notes: Mapping[str, Any] | None = None,
) -> None:
    """Write a model, or an ensemble stacked along a leading lane axis, as a bundle.

    **Arguments:** `folder`, new, or a bundle to replace (its other files are kept); `config`, `network`, `prior`, those
    from which `model` was built; `data_digest`, `Dataset.digest()` of the fitted data; `notes`, anything TOML can hold.

    **Raises:** `E_CKPT_MODEL` or `E_PRECISION` if `model` is not what these build, so that it could not be loaded;
    `E_CONFIG_VALUE` for notes that TOML cannot hold; `E_USAGE` if `folder` holds something else; `E_DISK`.
    """
    folder = Path(folder).resolve()
    kept = _other_files(folder)
    files = model_files(model, config, network, prior, data_digest=data_digest, notes=notes)
    with store.replacing(folder, is_sound) as temporary:
        temporary.mkdir()
        for entry in kept:
            (shutil.copytree if entry.is_dir() else shutil.copy2)(entry, temporary / entry.name)
        for name, data in files.items():
            (temporary / name).write_bytes(data)


def model_files(
    model: CellModel,
    config: ModelConfig,
    network: Network,
    prior: KineticPrior,
    *,
    data_digest: str = "",
    notes: Mapping[str, Any] | None = None,
) -> dict[str, bytes]:
    """The files of a bundle by name, for keeping a model inside something else; arguments and errors of `save_model`.
    `model_of_files` reads them."""
    header = {"schema_version": SCHEMA, "kind": KIND, "data_digest": data_digest}
    body = {**header, **describe(config, network, prior), "notes": dict(notes or {})}
    text = to_toml(body)
    structure = parse_config(parse_toml(text, MODEL), GeneKineticsFile, MODEL).structure()
    members = _members(model, structure)
    parameters = store.encode_tree(model)
    store.decode(parameters, "the model").into(structure if members is None else _repeated(structure, members))
    if members is not None:
        text = to_toml({**header, "members": members, **body})
    files = {MODEL: text.encode(), PARAMETERS: parameters}
    manifest = {
        "schema_version": SCHEMA,
        "kind": KIND,
        "genes": list(network.genes),
        "structure": structure_hash(model),
        "data_digest": data_digest,
        "versions": {
            "pinnsim": __version__,
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in _LIBRARIES},
        },
        "files": {name: hashlib.sha256(data).hexdigest() for name, data in files.items()},
    }
    files[MANIFEST] = _canonical({**manifest, "digest": _self_digest(manifest)})
    return files


def model_of_files(files: Mapping[str, bytes], limit: int = store.LIMIT) -> Bundle:
    """The model of the files of `model_files`, bit for bit, with the same checks and errors as `load_model`."""
    with tempfile.TemporaryDirectory(prefix="pinnsim-") as place:
        folder = Path(place) / "model"
        folder.mkdir()
        for name in (MODEL, PARAMETERS, MANIFEST):
            if name in files:
                (folder / name).write_bytes(files[name])
        return load_model(folder, limit)


def load_model(folder: str | Path, limit: int = store.LIMIT) -> Bundle:
    """The model of a bundle, bit for bit.

    **Arguments:** `limit`, the largest file in bytes that is accepted.

    **Raises:** `E_CKPT_MISSING`; `E_CKPT_CORRUPT` with the file and the leaf that is damaged, and the previous
    generation where that is sound; `E_CKPT_VERSION`, `E_CKPT_MODEL`, `E_PRECISION`, `E_SIZE`.
    """
    folder = Path(folder).resolve()
    try:
        manifest = _checked_manifest(folder, limit)
        stored = store.read(folder / PARAMETERS, limit)
    except PinnsimError as error:
        raise store.offering_previous(error, folder, is_sound) from error
    # Before anything is built: in single precision, what is built would itself be narrowed.
    stored.check_precision()
    place, text = str(folder / MODEL), (folder / MODEL).read_text(encoding="utf-8")
    description = parse_config(parse_toml(text, place), _KINDS[manifest["kind"]], place, text)
    config, network, prior = description.parts()
    structure, members = description.structure(), description.members
    model = stored.into(structure if members is None else _repeated(structure, members))
    return Bundle(
        model, members, config, network, prior, description.data_digest, description.notes, manifest["versions"]
    )


def is_sound(folder: Path) -> bool:
    """Whether a complete, undamaged bundle is there."""
    try:
        _checked_manifest(folder, store.LIMIT)
    except PinnsimError:
        return False
    return True


def _checked_manifest(folder: Path, limit: int) -> dict[str, Any]:
    """The manifest of a bundle, after all three files were found to be what it says."""
    with Problems() as problems:
        absent = [name for name in (MANIFEST, MODEL, PARAMETERS) if not (folder / name).is_file()]
        if absent:
            problems.add("E_CKPT_MISSING", f"'{folder}' is no complete model bundle: {first(absent)} is absent.")
        for name in {MANIFEST, MODEL, PARAMETERS}.difference(absent):
            size = (folder / name).stat().st_size
            if size > limit:
                problems.add("E_SIZE", f"{name} takes {size / 1e9:.3g} GB, limit {limit / 1e9:.3g} GB; pass limit=.")
    manifest = _parse_manifest((folder / MANIFEST).read_bytes(), folder)
    with Problems() as problems:
        for name in (MODEL, PARAMETERS):
            with (folder / name).open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
            if found != manifest["files"].get(name):
                problems.add("E_CKPT_CORRUPT", _blame(folder / name, limit))
    return manifest


def _parse_manifest(data: bytes, folder: Path) -> dict[str, Any]:
    try:
        whole = json.loads(data)
        manifest = {key: value for key, value in whole.items() if key != "digest"}
        sound = whole["digest"] == _self_digest(manifest) and data == _canonical(whole)
        sound &= all(isinstance(manifest[key], dict) for key in ("files", "versions"))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        sound = False
    if not sound:
        raise PinnsimError.of("E_CKPT_CORRUPT", f"{MANIFEST} of '{folder}' is damaged, or was edited by hand.")
    if manifest.get("schema_version") != SCHEMA:
        sentence = store.version_sentence(manifest.get("schema_version"), SCHEMA)
        raise PinnsimError.of("E_CKPT_VERSION", f"'{folder}': {sentence}")
    kind = manifest.get("kind")
    if kind not in _KINDS:
        message = f"'{folder}' holds a model of kind '{kind}', this build reads {first(_KINDS)}; update pinnsim."
        raise PinnsimError.of("E_CKPT_VERSION", message)
    return manifest


def _blame(path: Path, limit: int) -> str:
    if path.name == PARAMETERS:
        try:
            store.read(path, limit)
        except PinnsimError as error:
            return error.problems[0].message
        return f"{path.name} is not the file that {MANIFEST} was written for; save the model again with save_model."
    remedy = "to change a model, load it, change it in Python and save it"
    return f"{path.name} is damaged, or was edited: its sha256 is not the one in {MANIFEST}; {remedy}."


def _canonical(manifest: Mapping[str, Any]) -> bytes:
    return (json.dumps(manifest, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def _self_digest(manifest: Mapping[str, Any]) -> str:
    return hashlib.sha256(_canonical(manifest)).hexdigest()


def _other_files(folder: Path) -> list[Path]:
    """What else lies in the folder of a bundle. Anything but a bundle, or a card that waits for one, is left alone."""
    if not folder.exists():
        return []
    if not folder.is_dir():
        raise PinnsimError.of("E_USAGE", f"'{folder}' is a file; a model bundle is a folder.")
    others = sorted(entry for entry in folder.iterdir() if entry.name not in (MODEL, PARAMETERS, MANIFEST))
    strange = [entry.name for entry in others if not entry.name.upper().startswith("README")]
    if strange and not ((folder / MANIFEST).exists() and (folder / MODEL).exists()):
        message = f"'{folder}' is no model bundle but holds other files ({first(strange)}); choose another folder."
        raise PinnsimError.of("E_USAGE", message)
    return others


def _members(model: CellModel, structure: CellModel) -> int | None:
    """The number of stacked members, or `None` for a single model."""
    leaves, single = named_leaves(model), named_leaves(structure)
    counts = {
        leaves[name].shape[:1] for name in single if name in leaves and leaves[name].ndim == single[name].ndim + 1
    }
    return counts.pop()[0] if len(counts) == 1 else None


def _repeated(model: CellModel, members: int) -> CellModel:
    arrays, rest = eqx.partition(model, eqx.is_array)
    return eqx.combine(jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (members, *leaf.shape)), arrays), rest)
