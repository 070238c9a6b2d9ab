"""Splits by perturbation, drug and time point: what is held out is held out whole, and every leak is refused."""

import dataclasses

import numpy as np
import pytest

from pinnsim.data import Dataset
from pinnsim.data.snapshots import Snapshots
from pinnsim.errors import PinnsimError
from pinnsim.score import (
    Split,
    by_drug,
    by_perturbation,
    by_time_point,
    check_leave_out,
    check_no_neighbours,
    check_no_shared_cells,
    check_no_shared_population,
    touched,
)
from pinnsim.treatment import Treatment, drug, knockout, signal

GENES = ("GATA1", "SPI1", "MYC", "TP53")
SCREEN = {
    "control": Treatment(),
    "a": knockout("GATA1"),
    "b": Treatment.parse("SPI1*2@4:8"),
    "ab": knockout("GATA1") + Treatment.parse("SPI1*2"),
    "m": drug("MYC", dose=1.0, ic50=0.5),
    "M": drug("MYC", dose=3.0, ic50=0.5),
    "mp": drug("MYC", dose=1.0, ic50=0.5) + drug("TP53", dose=1.0, ic50=2.0),
}


def screen(treatments: dict[str, Treatment] = SCREEN) -> Dataset:
    values = np.random.default_rng(0).normal(8.0, 1.0, (len(treatments), 2, 3, 4))
    names = dict(conditions=tuple(treatments), replicates=("1", "2"), treatments=treatments)
    return Dataset.build(values, [0.0, 4.0, 12.0], GENES, **names, time_unit="h", scale="log2", simulated=True)


def cells(values: np.ndarray | None = None) -> Snapshots:
    values = np.random.default_rng(1).poisson(5.0, (240, 30)) if values is None else values
    times, genes = np.repeat([0.0, 24.0, 26.0, 48.0], 60), [f"g{k}" for k in range(30)]
    return Snapshots.build(values, times, genes, time_unit="h", scale="counts")


def held(splits: tuple[Split, ...]) -> dict[str, tuple[str, ...]]:
    for split in splits:
        assert sorted((*split.train.conditions, *split.test.conditions)) == sorted(SCREEN)
    return {split.name.removeprefix("without "): split.test.conditions for split in splits}


def test_a_perturbation_is_held_out_with_all_its_combinations() -> None:
    found = held(by_perturbation(screen()))
    assert found == {
        "GATA1": ("a", "ab"),
        "SPI1": ("b", "ab"),
        "MYC": ("m", "M", "mp"),
        "TP53": ("mp",),
    }
    assert held(by_perturbation(screen(), ["SPI1"])) == {"SPI1": ("b", "ab")}
    assert touched(Treatment.parse("hold(GATA1.mrna)=2")) == {"GATA1"}


def test_a_drug_is_held_out_at_every_dose() -> None:
    assert held(by_drug(screen())) == {"MYC": ("m", "M", "mp"), "TP53": ("mp",)}
    named = {"broad": ["GATA1", "SPI1"], "imatinib": ["MYC"]}
    assert held(by_drug(screen(), named)) == {"broad": ("a", "b", "ab"), "imatinib": ("m", "M", "mp")}


def test_what_cannot_be_held_out_is_told() -> None:
    with pytest.raises(PinnsimError, match="E_CONDITION_UNKNOWN.*did you mean 'GATA1'"):
        by_perturbation(screen(), ["GATA11"])
    with pytest.raises(PinnsimError, match="E_DATA_EMPTY"):
        by_drug(screen({"control": Treatment(), "a": knockout("GATA1")}))
    # A signal that every culture gets distinguishes none of them.
    fed = signal("food", 1.0)
    found = by_perturbation(screen({"control": fed, "a": fed + knockout("GATA1")}))
    assert [split.test.conditions for split in found] == [("a",)]


def test_leaks_of_perturbations_are_refused_all_at_once() -> None:
    data = screen()
    whole = Split("by hand", data.select(conditions=["control", "ab"]), data.select(conditions=["a"]))
    with pytest.raises(PinnsimError, match=r"'GATA1' is held out, but 1 fitted conditions contain it \(ab\)"):
        check_leave_out(whole, "GATA1")
    check_leave_out(whole, "MYC")
    twins = screen({"control": Treatment(), "a": knockout("GATA1"), "a2": knockout("GATA1")})
    with pytest.raises(PinnsimError, match="'a2' and 'a'"):
        check_leave_out(Split("by hand", twins.select(conditions=["control", "a"]), twins.select(["a2"])), "MYC")
    values = np.array(data.values)
    values[1, 1, 2] = values[0, 0, 2]
    with pytest.raises(PinnsimError, match="1 samples are both fitted and tested .a, replicate 2, 12"):
        by_perturbation(dataclasses.replace(data, values=values), ["GATA1"])
    # Predictions start from first samples: one untreated sample may begin every culture.
    values = np.array(data.values)
    values[:, :, 0] = values[0, 0, 0]
    assert len(by_perturbation(dataclasses.replace(data, values=values))) == 4


def test_time_points_of_snapshots() -> None:
    data = cells()
    splits = by_time_point(data)
    assert [(s.name, s.extrapolates) for s in splits] == [("24 h", False), ("26 h", False), ("48 h", True)]
    assert splits[0].train.cells().tolist() == [[60, 0, 60, 60]]
    assert splits[0].test.cells().tolist() == [[60, 60, 0, 0]]
    # With neighbours held out, nothing measured within the gap is left.
    wide = by_time_point(data, [24.0], gap=3.0)[0]
    assert wide.train.cells().tolist() == [[60, 0, 0, 60]]
    check_no_neighbours(wide.train, 24.0, 3.0)
    with pytest.raises(PinnsimError, match="E_SPLIT_LEAK.*all at 26 h"):
        check_no_neighbours(splits[0].train, 24.0, 3.0)
    with pytest.raises(PinnsimError) as caught:
        by_time_point(data, [0.0, 30.0, 26.0], gap=30.0)
    assert caught.value.codes == ("E_TIME_RANGE",) * 3


def test_cells_in_both_parts_are_refused() -> None:
    values = np.random.default_rng(1).poisson(5.0, (240, 30))
    values[200] = values[70]
    with pytest.raises(PinnsimError, match=r"1 cells of the tested populations.*all at 24 h, cell 10"):
        by_time_point(cells(values), [24.0])
    assert len(by_time_point(cells(values), [26.0])) == 1
    with pytest.raises(PinnsimError, match="3 populations are both fitted and tested"):
        check_no_shared_population(cells(), cells())
    # Poor profiles are equal by chance.
    few = np.zeros((240, 30), int)
    few[:, :3] = np.random.default_rng(2).poisson(2.0, (240, 3))
    with pytest.warns(UserWarning, match="W_GENE_CONSTANT"):
        assert len(by_time_point(cells(few))) == 3
    check_no_shared_cells(["A-1", "B-1"], ["A-2"])
    with pytest.raises(PinnsimError, match="E_SPLIT_LEAK.*1 cells are in both parts .B-1"):
        check_no_shared_cells(["A-1", "B-1"], ["B-1"])
