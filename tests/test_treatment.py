"""Treatments: the text form is the inverse of printing, and everything that is wrong is said at once."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinnsim.errors import PinnsimError
from pinnsim.table import Table
from pinnsim.treatment import (
    NONE,
    Dose,
    Edit,
    Treatment,
    as_treatment,
    drive,
    drug,
    hold,
    knockdown,
    knockout,
    overexpress,
    signal,
    variant,
)
from pinnsim.treatment.edit import MULTIPLIED, SET

KINDS = ("transcription", "splicing", "decay", "translation", "protein_decay")
GENES = ("GATA1", "SPI1", "MYC")
TABLE = Table(
    genes=GENES,
    regulators=("GATA1", "SPI1", "HID"),
    inputs=("malate", "glucose"),
    reactions=tuple(f"{kind}:{gene}" for kind in KINDS for gene in GENES),
    species=(*(f"{gene}.{layer}" for layer in ("unspliced", "spliced", "protein") for gene in GENES), "HID.activity"),
    edges=("GATA1->SPI1", "HID->MYC"),
)
positive = st.floats(min_value=1e-12, max_value=1e12)
amount = st.one_of(st.just(0.0), positive)
doses = st.builds(Dose, dose=amount, ka=st.one_of(st.just(math.inf), positive), ke=amount, ic50=amount, hill=positive)


@st.composite
def edits(draw: st.DrawFn) -> Edit:
    """Any edit that is right by itself."""
    field = draw(st.sampled_from(MULTIPLIED + SET))
    start = draw(st.one_of(st.just(-math.inf), st.floats(-1e6, 1e6)))
    stop = draw(st.one_of(st.just(math.inf), st.floats(-1e6, 1e6)))
    start, stop = (start, stop) if start < stop else (-math.inf, stop)
    value = draw({"signal": st.floats(-1e6, 1e6), "rnai": positive}.get(field, amount))
    # Names are unique to the edit where two could contradict each other.
    name = draw(st.text(max_size=12)) + (str(draw(st.integers(0, 10**9))) if field in ("gene", "transcription") else "")
    return Edit(field, name, value, start, stop, draw(st.one_of(st.just(Dose()), doses)))


def codes(text: str) -> tuple[str, ...]:
    with pytest.raises(PinnsimError) as caught:
        Treatment.parse(text).check(TABLE)
    return caught.value.codes


@given(st.lists(edits(), max_size=4))
def test_text_round_trip(drawn: list[Edit]) -> None:
    names: set[str] = set()
    treatment = Treatment(tuple(e for e in drawn if not (e.name in names or names.add(e.name))))  # type: ignore[func-returns-value]
    assert Treatment.parse(str(treatment)) == treatment


@pytest.mark.parametrize(
    "text",
    [
        "none",
        "GATA1=0",
        "GATA1=0, SPI1*2@24:48",
        "signal(malate)=-1.5@0:10",
        "activity(MYC)*0{ic50=0.3;hill=2}@0:",
        "drive(GATA1)=0.25@:7",
        "'my gene, {odd}'*3",
        "'O''Hara'=0",
        "edge(GATA1->SPI1)*0.5",
        "reaction(decay:MYC)*1e-05",
    ],
)
def test_canonical_text_is_kept(text: str) -> None:
    assert str(Treatment.parse(text)) == text


def test_free_spacing_and_empty() -> None:
    assert Treatment.parse("  GATA1 = 0 ,SPI1 * 2 @ 24 : 48 ") == Treatment.parse("GATA1=0, SPI1*2@24:48")
    assert Treatment.parse("") == Treatment.parse(" none ") == NONE
    assert as_treatment(NONE) is NONE


def test_builders_write_what_the_lab_says() -> None:
    assert str(knockout("GATA1")) == "GATA1=0"
    assert str(knockdown("SPI1", efficiency=0.9)) == "SPI1*0.1"
    assert str(knockdown("SPI1", efficiency=0.8, mode="rnai", start=1)) == "rnai(SPI1)*0.2@1:"
    assert str(overexpress("SPI1", fold=5, start=24, stop=48)) == "SPI1*5@24:48"
    assert str(drug("MYC", dose=2, ic50=0.3, ke=0.1)) == "activity(MYC)*0{dose=2;ke=0.1;ic50=0.3}"
    assert str(drug("MYC", dose=2, ic50=0.3, action="degrade")) == "product_decay(MYC)*10{dose=2;ic50=0.3}"
    assert str(variant("MYC", translation=0.7, decay=2)) == "translation(MYC)*0.7, decay(MYC)*2"
    both = signal("malate", 1) + drive("GATA1", 0.5) + hold("MYC", 3)
    assert str(both) == "signal(malate)=1, drive(GATA1)=0.5, hold(MYC)=3"


def test_delay_moves_what_has_a_time() -> None:
    assert str(Treatment.parse("GATA1=0, SPI1*2@1:2").delay(10)) == "GATA1=0, SPI1*2@11:12"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("GATA1", "E_PERTURB_TEXT"),
        ("GATA1=2", "E_PERTURB_TEXT"),
        ("signal(malate)*2", "E_PERTURB_TEXT"),
        ("gene(GATA1)*2", "E_PERTURB_TEXT"),
        ("sygnal(malate)=1", "E_PERTURB_TEXT"),
        ("MYC*2{dos=1}", "E_PERTURB_TEXT"),
        ("MYC*2{dose=1;dose=2}", "E_PERTURB_TEXT"),
        ("MYC*2@5", "E_PERTURB_TEXT"),
        ("GATA1=0,", "E_PERTURB_TEXT"),
        ("GATA2=0", "E_PERTURB_GENE"),
        ("signal(malat)=1", "E_PERTURB_GENE"),
        ("edge(SPI1->GATA1)*0", "E_PERTURB_GENE"),
        ("reaction(decoy:MYC)*0", "E_PERTURB_GENE"),
        ("splicing(HID)*0", "E_PERTURB_GENE"),
        ("MYC*-1", "E_DOSE_NEGATIVE"),
        ("MYC*nan", "E_DOSE_NEGATIVE"),
        ("MYC*2{dose=-1}", "E_DOSE_NEGATIVE"),
        ("MYC*2{dose=nan}", "E_DOSE_NEGATIVE"),
        ("MYC*2{hill=0}", "E_DOSE_NEGATIVE"),
        ("rnai(MYC)*0", "E_DOSE_NEGATIVE"),
        ("drive(MYC)=inf", "E_DOSE_NEGATIVE"),
        ("MYC=0, MYC*3", "E_PERTURB_CONFLICT"),
        ("MYC=0@0:10, transcription(MYC)*3@5:", "E_PERTURB_CONFLICT"),
        ("MYC*2@5:5", "E_PERTURB_TIME"),
    ],
)
def test_one_wrong_thing_gives_its_code(text: str, code: str) -> None:
    assert codes(text) == (code,)


def test_all_problems_at_once() -> None:
    text = "GATA1, sygnal(malate)=1, MYC*-1, SPI1=0, SPI1*3, MYC*2@9:3, MYC*2{ic50=-2}"
    found = codes(text)
    assert found.count("E_PERTURB_TEXT") == 2
    assert found.count("E_DOSE_NEGATIVE") == 2
    assert set(found) == {"E_PERTURB_TEXT", "E_DOSE_NEGATIVE", "E_PERTURB_CONFLICT", "E_PERTURB_TIME"}
    with pytest.raises(PinnsimError) as caught:
        Treatment.parse("GATA2=0, signal(malat)=1, splicing(HID)*0").resolve(TABLE)
    assert caught.value.codes == ("E_PERTURB_GENE",) * 3


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("GATA2=0", "did you mean 'GATA1'?"),
        ("gata1=0", "did you mean 'GATA1'?"),
        ("signal(malat)=1", "did you mean 'malate'?"),
        ("sygnal(malate)=1", "did you mean 'signal'?"),
        ("MYC*2{dos=1}", "did you mean 'dose'?"),
    ],
)
def test_did_you_mean(text: str, hint: str) -> None:
    with pytest.raises(PinnsimError, match="did you mean") as caught:
        Treatment.parse(text).check(TABLE)
    assert hint in str(caught.value)


def test_knock_out_and_over_expression_at_different_times_agree() -> None:
    one_after_the_other = Treatment.parse("MYC=0@0:5, MYC*3@5:10")
    one_after_the_other.check(TABLE)
    assert one_after_the_other.resolve(TABLE, phases=2).phases == 2
    assert codes("MYC=0@0:5, MYC*3@4:10") == ("E_PERTURB_CONFLICT",)


def test_builders_refuse() -> None:
    for call, code in (
        (lambda: knockdown("MYC", efficiency=1.2), "E_DOSE_NEGATIVE"),
        (lambda: knockdown("MYC", efficiency=1.0, mode="rnai"), "E_DOSE_NEGATIVE"),
        (lambda: knockdown("MYC", efficiency=0.5, mode="magic"), "E_USAGE"),
        (lambda: drug("MYC", dose=-1, ic50=1), "E_DOSE_NEGATIVE"),
        (lambda: drug("MYC", dose=1, ic50=1, action="boost"), "E_USAGE"),
        (lambda: variant("MYC", translaton=0.5), "E_PERTURB_GENE"),
        (lambda: signal("malate", 1, start=5, stop=4), "E_PERTURB_TIME"),
    ):
        with pytest.raises(PinnsimError) as caught:
            call()
        assert caught.value.codes == (code,)


def test_span() -> None:
    for text in ("MYC=0@11:", "MYC=0@10:", "MYC=0@-5:0", "MYC=0@-5:-1"):
        with pytest.raises(PinnsimError) as caught:
            Treatment.parse(text).check_span(0.0, 10.0)
        assert caught.value.codes == ("E_PERTURB_TIME",)
    # What ended at the first time, but acted since ever, says where the culture rested.
    Treatment.parse("signal(malate)=1@:0, MYC=0@9:20, SPI1*2").check_span(0.0, 10.0)


def test_resolve_places_every_field() -> None:
    def entry(text: str, array: str) -> dict[str, float]:
        resolved = Treatment.parse(text).resolve(TABLE)
        neutral = NONE.resolve(TABLE)
        names = {"factor": TABLE.reactions, "edge_factor": TABLE.edges, "signal": TABLE.inputs}.get(
            array, TABLE.species
        )
        changed = {
            f.name
            for f in dataclasses.fields(resolved)
            if not np.array_equal(np.asarray(getattr(resolved, f.name)), np.asarray(getattr(neutral, f.name)))
        }
        assert changed - {"start", "stop", "hold"} <= {array}
        values, plain = np.asarray(getattr(resolved, array))[0], np.asarray(getattr(neutral, array))[0]
        return {names[i]: float(values[i]) for i in np.flatnonzero(values != plain)}

    assert entry("GATA1=0@1:2", "factor") == {"transcription:GATA1": 0.0}
    assert entry("rnai(GATA1)*0.25@1:2", "factor") == {"decay:GATA1": 4.0}
    assert entry("product_decay(GATA1)*3@1:2", "factor") == {"protein_decay:GATA1": 3.0}
    assert entry("splicing(MYC)*3@1:2", "factor") == {"splicing:MYC": 3.0}
    assert entry("reaction(decay:MYC)*3@1:2", "factor") == {"decay:MYC": 3.0}
    assert entry("activity(MYC)*0@1:2", "activity") == {"MYC.protein": 0.0}
    assert entry("HID=0@1:2", "activity") == {"HID.activity": 0.0}
    assert entry("drive(MYC)=2@1:2", "drive") == {"MYC.unspliced": 2.0}
    assert entry("drive(MYC.spliced)=2@1:2", "drive") == {"MYC.spliced": 2.0}
    assert entry("hold(MYC)=2@1:2", "level") == {"MYC.protein": 2.0}
    assert entry("hold(HID.activity)=-2@1:2", "level") == {"HID.activity": -2.0}
    assert entry("edge(HID->MYC)*2@1:2", "edge_factor") == {"HID->MYC": 2.0}
    assert entry("signal(glucose)=-2@1:2", "signal") == {"glucose": -2.0}


def test_edits_of_one_moment_share_a_phase() -> None:
    resolved = Treatment.parse(
        "MYC*2@1:2, SPI1*3@1:2, MYC*0.25@1:2, signal(malate)=1@1:2, signal(malate)=2@1:2"
    ).resolve(TABLE)
    assert resolved.phases == 1
    factor = dict(zip(TABLE.reactions, np.asarray(resolved.factor)[0].tolist(), strict=True))
    assert factor["transcription:MYC"] == 0.5
    assert factor["transcription:SPI1"] == 3.0
    assert np.asarray(resolved.signal)[0].tolist() == [3.0, 0.0]
    assert Treatment.parse("MYC*2@1:2, SPI1*3@1:3").resolve(TABLE).phases == 2
    assert NONE.resolve(TABLE, phases=4).phases == 4


@pytest.mark.parametrize(
    ("text", "hinted"), [("IFN γ=0", True), ("TFα*2@0:", True), ("MYC=!", False), ("GATA1", False)]
)
def test_names_that_need_quotes_are_said_to_need_them(text: str, hinted: bool) -> None:
    with pytest.raises(PinnsimError, match="E_PERTURB_TEXT") as caught:
        Treatment.parse(text)
    name = text.split("=")[0].split("*")[0]
    assert (f"stands in single quotes: '{name}'=0" in str(caught.value)) == hinted
    if hinted:
        assert Treatment.parse(f"'{name}'=0").edits[0].name == name
