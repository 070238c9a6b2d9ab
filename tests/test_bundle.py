"""A model bundle gives back the same model, bit for bit, or refuses by file and leaf."""

import json
import os
import shutil
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from pinnsim.errors import PinnsimError
from pinnsim.formats import bundle as bundle_file
from pinnsim.formats.bundle import load_model, save_model
from pinnsim.formats.gene_kinetics import formulas
from pinnsim.model import CellModel, ModelConfig, build
from pinnsim.network import Network
from pinnsim.prior import half_life_prior
from pinnsim.simulate import FromSample, simulate
from pinnsim.store import encode_tree
from pinnsim.tree import named_leaves, stack

GENES = ("ccpA", "ccpN", "gapB", "pckA")
NETWORK = Network.from_frame(
    pd.DataFrame(
        {
            "regulator": ["ccpN", "ccpN", "ccpA", "cggR"],
            "target": ["gapB", "pckA", "ccpN", "gapB"],
            "sign": ["-", "-", "?", "+"],
            "confidence": [1.0, 0.9, 0.1 + 0.2, 0.5],
            "kind": ["repression", "repression", "unknown", "σ-factor"],
        }
    ),
).restrict(GENES, allow_missing=True)
PRIOR = half_life_prior(None, GENES, "B. subtilis")
CONFIG = ModelConfig.model_validate(
    {
        "layers": ["mrna", "protein"],
        "inputs": [{"name": "malate"}],
        "regulation": {"own_inputs": True, "learn_hill": True},
        "residual": {"kind": "mlp", "width": 3},
        "readout": {"kind": "array"},
        "likelihood": {"kind": "student_t", "sd": 0.1},
    }
)
FILES = ("manifest.json", "model.toml", "parameters.safetensors")


def drawn(seed: int) -> CellModel:
    """A model whose parameters are all away from where `build` puts them."""
    keys = iter(jax.random.split(jax.random.key(seed), 100))

    def move(leaf):
        return leaf + 0.1 * jax.random.normal(next(keys), leaf.shape) if eqx.is_inexact_array(leaf) else leaf

    return jax.tree.map(move, build(CONFIG, NETWORK, PRIOR).center)


def save(folder: Path, model: CellModel, **options) -> Path:
    save_model(folder, model, CONFIG, NETWORK, PRIOR, **options)
    return folder


def refusal(folder: Path) -> PinnsimError:
    with pytest.raises(PinnsimError) as caught:
        load_model(folder)
    return caught.value


def contents(folder: Path) -> dict[str, bytes]:
    return {entry.relative_to(folder).as_posix(): entry.read_bytes() for entry in folder.rglob("*") if entry.is_file()}


def sealed(folder: Path, **changes) -> None:
    """Change the manifest and give it the digest that fits."""
    manifest = json.loads((folder / "manifest.json").read_text()) | changes
    del manifest["digest"]
    manifest["digest"] = bundle_file._self_digest(manifest)
    (folder / "manifest.json").write_bytes(bundle_file._canonical(manifest))


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    return save(tmp_path_factory.mktemp("bundles") / "toggle", drawn(1), data_digest="abc", notes={"by": "é", "n": [1]})


@pytest.fixture
def folder(saved, tmp_path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "toggle"))


def test_a_model_comes_back_bit_for_bit(folder):
    loaded = load_model(folder)
    assert encode_tree(loaded.model) == encode_tree(drawn(1))
    assert (loaded.config, loaded.members, loaded.data_digest) == (CONFIG, None, "abc")
    assert loaded.notes == {"by": "é", "n": [1]}
    assert loaded.network.to_frame().equals(NETWORK.to_frame())
    assert (loaded.network.genes, loaded.network.regulators) == (NETWORK.genes, NETWORK.regulators)
    assert loaded.prior.report().equals(PRIOR.report())
    assert loaded.versions["jax"] == jax.__version__
    assert [encode_tree(member) for member in loaded.models] == [encode_tree(drawn(1))]


def test_predictions_are_the_same_to_the_last_bit(folder):
    treatments = ["signal(malate)=1@5:10", "ccpN=0"]
    times, sample = np.array([0.0, 7.5, 20.0]), FromSample(np.array([14.0, 12.0, 15.0, 10.0]))
    before, after = (
        simulate(model, times, treatments, initial=sample) for model in (drawn(1), load_model(folder).model)
    )
    assert np.asarray(before.states).tobytes() == np.asarray(after.states).tobytes()
    assert np.asarray(before.readings).tobytes() == np.asarray(after.readings).tobytes()
    assert np.isfinite(before.states).all()


def test_an_ensemble_comes_back_with_its_members(tmp_path):
    members = [drawn(seed) for seed in range(3)]
    loaded = load_model(save(tmp_path / "ensemble", stack(members)))
    assert loaded.members == 3
    assert [encode_tree(member) for member in loaded.models] == [encode_tree(member) for member in members]
    assert encode_tree(loaded.model) == encode_tree(stack(members)) == encode_tree(loaded.ensemble)


def test_equal_models_give_equal_bytes(saved, tmp_path):
    again = save(tmp_path / "again", drawn(1), data_digest="abc", notes={"by": "é", "n": [1]})
    assert contents(again) == contents(saved)
    assert set(contents(again)) == set(FILES)


def test_the_description_names_edges_sources_and_formulas(folder):
    text = (folder / "model.toml").read_text(encoding="utf-8")
    for words in (
        'kind = "σ-factor"',
        "Hambraeus et al. 2003",
        'time_unit = "min"',
        "ceiling - softplus",
        "dp/dt = k m",
    ):
        assert words in text
    for layers in (("unspliced", "spliced", "protein"), ("mrna",)):
        told = formulas(ModelConfig(layers=layers))["kinetics"]
        assert ("dp/dt" in told, "ds/dt" in told) == ("protein" in layers, "spliced" in layers)


@pytest.mark.parametrize("name", [None, *FILES])
def test_a_hundred_random_bit_flips_are_all_refused(name, folder):
    whole = contents(folder)
    names = [name] if name else list(FILES)
    places = [(file, place) for file in names for place in range(len(whole[file]))]
    random = np.random.default_rng(20120302)
    for file, place in (places[k] for k in random.integers(len(places), size=100)):
        flipped = bytearray(whole[file])
        flipped[place] ^= 1 << int(random.integers(8))
        (folder / file).write_bytes(flipped)
        error = refusal(folder)
        assert set(error.codes) == {"E_CKPT_CORRUPT"}
        assert file in str(error)
        (folder / file).write_bytes(whole[file])
    load_model(folder)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: data + b"\n", lambda data: b""])
def test_truncated_and_extended_files_are_refused(name, change, folder):
    (folder / name).write_bytes(change((folder / name).read_bytes()))
    error = refusal(folder)
    assert set(error.codes) == {"E_CKPT_CORRUPT"}
    assert name in str(error)


@pytest.mark.parametrize("name", FILES)
def test_an_absent_file_is_refused(name, folder):
    (folder / name).unlink()
    error = refusal(folder)
    assert error.codes == ("E_CKPT_MISSING",)
    assert name in str(error)


def test_two_exchanged_fields_are_refused_and_named(folder):
    path = folder / "parameters.safetensors"
    one, other = (named_leaves(drawn(1))[f"kinetics/{name}/raw"].tobytes() for name in ("synthesis", "decay"))
    data = path.read_bytes()
    assert data.count(one) == data.count(other) == 1
    path.write_bytes(data.replace(one, b"#" * len(one)).replace(other, one).replace(b"#" * len(one), other))
    assert "'kinetics/decay/raw' and 'kinetics/synthesis/raw' were exchanged" in str(refusal(folder))


def test_sound_parameters_of_another_save_are_refused(folder):
    (folder / "parameters.safetensors").write_bytes(encode_tree(drawn(2)))
    error = refusal(folder)
    assert error.codes == ("E_CKPT_CORRUPT",)
    assert "not the file that manifest.json was written for" in str(error)


def test_parameters_of_a_model_with_another_gene_order_are_refused(folder):
    other = ("ccpN", "ccpA", "gapB", "pckA")
    model = build(CONFIG, NETWORK.restrict(other, allow_missing=True), half_life_prior(None, other, "B. subtilis"))
    parameters = encode_tree(model.center)
    (folder / "parameters.safetensors").write_bytes(parameters)
    files = {name: bundle_file.hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in FILES[1:]}
    sealed(folder, files=files)
    error = refusal(folder)
    assert set(error.codes) == {"E_CKPT_MODEL"}
    assert "kinetics/table/genes has 'ccpN' instead of 'ccpA' at 0" in str(error)


def test_newer_schemas_and_unknown_kinds_are_refused(folder):
    sealed(folder, schema_version=3)
    assert refusal(folder).codes == ("E_CKPT_VERSION",)
    assert "file schema 3, this build reads 1" in str(refusal(folder))
    sealed(folder, schema_version=1, kind="lattice")
    assert refusal(folder).codes == ("E_CKPT_VERSION",)
    sealed(folder, files=[])
    assert refusal(folder).codes == ("E_CKPT_CORRUPT",)


def test_double_precision_is_refused_in_a_single_precision_session(folder):
    with jax.enable_x64(False):
        error = refusal(folder)
    assert error.codes == ("E_PRECISION",)
    assert "pinnsim.enable_x64()" in str(error)


def test_single_precision_round_trips_in_its_own_session(tmp_path):
    with jax.enable_x64(False):
        prior = half_life_prior(None, GENES, "B. subtilis")
        model = build(CONFIG, NETWORK, prior).center
        save_model(tmp_path / "single", model, CONFIG, NETWORK, prior)
        loaded = load_model(tmp_path / "single").model
        assert encode_tree(loaded) == encode_tree(model)
        assert loaded.kinetics.decay.raw.dtype == jnp.float32
    assert refusal(tmp_path / "single").codes == ("E_PRECISION",)


def test_files_over_the_limit_are_refused(folder):
    with pytest.raises(PinnsimError, match="E_SIZE"):
        load_model(folder, limit=1000)


def test_what_could_not_be_loaded_is_not_saved(tmp_path):
    other = CONFIG.model_copy(update={"layers": ("mrna",)})
    with pytest.raises(PinnsimError, match="E_CKPT_MODEL.*protein") as caught:
        save_model(tmp_path / "wrong", build(other, NETWORK, PRIOR).center, CONFIG, NETWORK, PRIOR)
    assert "not in the file: 'kinetics/translation/raw'" in str(caught.value)
    with pytest.raises(PinnsimError, match="E_CONFIG_VALUE"):
        save(tmp_path / "wrong", drawn(1), notes={"note": {1}})
    assert list(tmp_path.iterdir()) == []


def test_the_card_stays_and_the_previous_generation_is_offered(folder):
    (folder / "README.md").write_text("# Toggle\n")
    save(folder, drawn(2))
    assert (folder / "README.md").read_text() == "# Toggle\n"
    previous = folder.with_name("toggle.previous")
    assert encode_tree(load_model(previous).model) == encode_tree(drawn(1))
    (folder / "model.toml").write_text("edited = true\n")
    error = refusal(folder)
    assert error.codes == ("E_CKPT_CORRUPT",)
    assert "model.toml is damaged, or was edited" in str(error)
    assert f"load '{previous}'" in str(error)
    save(folder, drawn(3))
    assert encode_tree(load_model(folder).model) == encode_tree(drawn(3))
    assert encode_tree(load_model(previous).model) == encode_tree(drawn(1))


def test_folders_and_files_that_are_no_bundle_are_left_alone(tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("x")
    (tmp_path / "README.md").write_text("# A card\n")
    for name in ("thesis", "README.md"):
        with pytest.raises(PinnsimError, match="E_USAGE"):
            save(tmp_path / name, drawn(1))
    assert contents(tmp_path) == {"thesis/chapter.tex": b"x", "README.md": b"# A card\n"}


@pytest.mark.parametrize("call", [1, 2])
def test_a_save_that_fails_half_way_leaves_the_old_bundle(call, folder, monkeypatch):
    before, replace, calls = contents(folder.parent), os.replace, []

    def failing(source, destination):
        calls.append(source)
        if len(calls) == call:
            raise OSError(28, "No space left on device")
        replace(source, destination)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", failing)
        with pytest.raises(PinnsimError, match="E_DISK.*No space left"):
            save(folder, drawn(2))
    assert contents(folder.parent) == before
    save(folder, drawn(2))
    assert {entry.name for entry in folder.parent.iterdir()} == {"toggle", "toggle.previous"}
