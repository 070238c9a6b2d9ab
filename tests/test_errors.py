"""Errors: every code of the contract exists, problems come together, and texts name the next move."""

import pickle
import re
from pathlib import Path

import pytest

from pinnsim.errors import (
    CODES,
    PinnsimError,
    PinnsimWarning,
    Problem,
    Problems,
    closest,
    did_you_mean,
    first,
    warn,
)

PACKAGE = Path(__file__).resolve().parent.parent / "pinnsim"
CONTRACT = {
    2: "E_PERTURB_GENE E_DOSE_NEGATIVE E_PERTURB_CONFLICT E_PERTURB_TIME E_BOUNDS E_INIT E_CONFIG_KEY E_CONFIG_CYCLE "
    "E_RULE_CYCLE",
    3: "E_DATA_NEGATIVE E_DATA_NONFINITE E_GENE_DUPLICATE E_GENE_UNMATCHED E_TIME_ORDER E_TIME_FEW E_TIME_UNIT "
    "E_SCALE_MISMATCH E_LAYER_MISSING E_NETWORK_EMPTY E_DATA_EMPTY E_SIZE E_CKPT_VERSION E_CKPT_MODEL E_CKPT_CORRUPT "
    "E_PRECISION E_DISK E_LOCKED E_SBML_UNSUPPORTED E_SBML_INVALID E_FORMULA",
    4: "E_SOLVER",
    0: "W_GENE_CONSTANT W_LEVEL_LOW W_SCALE_RAW",
}


@pytest.mark.parametrize(("status", "code"), [(s, code) for s, codes in CONTRACT.items() for code in codes.split()])
def test_every_code_of_the_contract_has_its_exit_status(status, code):
    assert CODES[code][0] == status


def test_every_code_used_in_the_package_is_registered():
    used = {(path.name, code) for path in PACKAGE.rglob("*.py") for code in _quoted_codes(path)}
    assert len(used) > 50
    assert [(name, code) for name, code in sorted(used) if code not in CODES] == []


def _quoted_codes(path):
    found = re.findall(r'add\(\s*"([EW]_[A-Z_]+)"|(?:of|warn)\(\s*"([EW]_[A-Z_]+)"', path.read_text(encoding="utf-8"))
    return [code for pair in found for code in pair if code]


def test_the_earliest_stage_at_fault_sets_the_exit_status():
    together = [Problem("E_SOLVER", "x"), Problem("E_DATA_EMPTY", "y"), Problem("E_BOUNDS", "z")]
    assert [PinnsimError(together[:n]).exit_status for n in (1, 2, 3)] == [4, 3, 2]


def test_a_block_raises_everything_at_its_end_and_keeps_what_was_raised_inside():
    def block(error):
        with Problems() as problems:
            problems.add("E_BOUNDS", "one")
            problems.add("E_BOUNDS", "one")
            raise error

    with pytest.raises(PinnsimError) as both:
        block(PinnsimError.of("E_INIT", "two"))
    assert both.value.codes == ("E_BOUNDS", "E_INIT")
    with pytest.raises(KeyError):
        block(KeyError())
    with Problems() as problems:
        assert not problems


def test_an_error_survives_the_way_to_another_process():
    error = PinnsimError([Problem("E_BOUNDS", "lower > upper"), Problem("E_INIT", "negative")])
    assert str(pickle.loads(pickle.dumps(error))) == "E_BOUNDS: lower > upper\nE_INIT: negative"


def test_a_warning_starts_with_its_code():
    with pytest.warns(PinnsimWarning, match="^W_GENE_CONSTANT: told$"):
        warn("W_GENE_CONSTANT", "told")


def test_near_names_are_found_whatever_their_case():
    assert closest("Gata1", ("SPI1", "GATA1")) == "GATA1"
    assert closest("lerning_rate", ("learning_rate", "steps")) == "learning_rate"
    assert closest("xyz", ("learning_rate",)) is None
    assert did_you_mean("xyz", ("learning_rate",)) == ""


def test_only_the_first_offenders_are_shown():
    assert first("abc") == "a, b, c"
    assert first(range(7)) == "0, 1, 2 … (+4)"
