"""The shelf is found in a wheel, in a checkout and nowhere else, and names are met with the nearest one."""

import shutil
from pathlib import Path

import pytest

from pinnsim import shelf
from pinnsim.errors import PinnsimError
from pinnsim.formats import bundle


@pytest.fixture(params=["wheel", "checkout"])
def house(request, tmp_path, monkeypatch) -> Path:
    """An installation of either kind; the folder that holds `models` and `experiments`."""
    package = tmp_path / "pinnsim"
    share = package / "_share" if request.param == "wheel" else tmp_path
    for name, card in {"toggle": "\n# Toggle switch: two genes\n\nMore.\n", "carbon_shift": None}.items():
        folder = share / "models" / name
        folder.mkdir(parents=True)
        (folder / "model.toml").write_text("")
        if card:
            (folder / "README.md").write_text(card, encoding="utf-8")
    shutil.copytree(share / "models" / "toggle", share / "models" / "toggle.previous")
    (share / "models" / "notes").mkdir()
    (share / "experiments").mkdir()
    (share / "experiments" / "cross_arm.py").write_text(
        '"""Does one arm predict the other?\n\nYes."""\nraise SystemExit\n'
    )
    (share / "experiments" / "__init__.py").write_text("")
    if request.param == "checkout":
        package.mkdir()
        (tmp_path / "pyproject.toml").write_text("")
    monkeypatch.setattr(shelf, "_PACKAGE", package)
    return share


def test_models_are_listed_with_the_first_line_of_their_card(house):
    assert shelf.models() == {"carbon_shift": "", "toggle": "Toggle switch: two genes"}
    assert shelf.path("toggle") == house / "models" / "toggle"


def test_experiments_are_listed_with_their_question_and_not_run(house):
    assert shelf.experiments() == {"cross_arm": "Does one arm predict the other?"}
    assert shelf.experiment_path("cross_arm") == house / "experiments" / "cross_arm.py"


def test_loading_reads_the_bundle_of_that_name(house, monkeypatch):
    monkeypatch.setattr(bundle, "load_model", lambda folder: f"bundle of {folder.name}")
    assert shelf.load("toggle") == "bundle of toggle"


@pytest.mark.parametrize(
    ("action", "name", "told"),
    [
        (
            shelf.load,
            "togle",
            "E_MODEL_UNKNOWN: no model 'togle' (did you mean 'toggle'?) on the shelf; there are carbon",
        ),
        (shelf.path, "../models/toggle", "E_MODEL_UNKNOWN"),
        (shelf.path, "notes", "E_MODEL_UNKNOWN"),
        (
            shelf.experiment_path,
            "cross_arms",
            "E_EXPERIMENT_UNKNOWN: no experiment 'cross_arms' (did you mean 'cross_arm'",
        ),
    ],
)
@pytest.mark.usefixtures("house")
def test_unknown_names_are_met_with_the_nearest_one(action, name, told):
    with pytest.raises(PinnsimError) as caught:
        action(name)
    assert told in str(caught.value)


def test_an_installation_without_a_shelf_takes_nobody_elses_models(tmp_path, monkeypatch):
    monkeypatch.setattr(shelf, "_PACKAGE", tmp_path / "pinnsim")
    (tmp_path / "models" / "other").mkdir(parents=True)
    (tmp_path / "models" / "other" / "model.toml").write_text("")
    assert shelf.models() == shelf.experiments() == {}
    with pytest.raises(PinnsimError, match="the shelf is empty"):
        shelf.path("other")


def test_this_checkout_or_installation_has_its_models_card_and_bundle_whole():
    for name, line in shelf.models().items():
        assert line, f"the card of {name} has no first line"
        assert bundle.is_sound(shelf.path(name)) or shelf.load_system(name).system.table.species
