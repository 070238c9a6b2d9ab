"""Formulas: values are those of numpy, what the grammar lacks is told with its column, bounds hold, and laws keep
mass."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pinnsim.dynamics.formula import FUNCTIONS, read_formula
from pinnsim.errors import PinnsimError, Problems
from pinnsim.formats.reaction_system import load_system, save_system
from pinnsim.perturbation import Perturbation
from pinnsim.treatment import Treatment

KNOWN = {"x": 0.7, "g.mrna": 2.5, "k": 3.0}
CASES = {
    "1 + 2 * x^2": 1 + 2 * 0.7**2,
    "-x^2": -(0.7**2),
    "2^-x": 2**-0.7,
    "2^3^2 / 8": 64.0,
    "--x": 0.7,
    "x - 1 - 2": 0.7 - 3,
    "k / x / 2": 3 / 0.7 / 2,
    "x ** .5e1": 0.7**5,
    "hill(g.mrna, k, 4)": 2.5**4 / (3**4 + 2.5**4),
    "repress(g.mrna, k, 4)": 3**4 / (3**4 + 2.5**4),
    "max(x, 1) * min(x, 1) + abs(-k) + sqrt(k)": 0.7 + 3 + np.sqrt(3),
    "exp(-x) * log(k) * tanh(x)": np.exp(-0.7) * np.log(3) * np.tanh(0.7),
}
BAD = {
    "": "ends where a number or a name should be (column 1)",
    "x +": "ends where",
    "x + * 2": "has '*' where a number or a name should be (column 5)",
    "(x": "a parenthesis that is not closed (column 3)",
    "x y": "has 'y' where an operator or its end should be (column 3)",
    "__import__(;)": "has ';', which formulas do not have (column 12)",
    "open(x)": "calls 'open', which is no function here",
    "hil(x, 1, 2)": "did you mean 'hill'?",
    "exp(x, 2)": "gives exp() 2 arguments, but it takes 1",
    "1 / (2 - 2)": "divides by 0",
    "9^9^9": "leaves the range of numbers",
    "x^x^x^x^x^x": "raises powers to powers more than 3 times",
    "(" * 60 + "x" + ")" * 60: "is nested more than 40 deep",
    "x" * 3000: "has 3000 characters",
    "1e999": "which is too large",
}


@pytest.mark.parametrize("text", CASES)
def test_values_are_those_of_numpy(text: str) -> None:
    problems = Problems()
    formula = read_formula(text, problems)
    assert not problems
    got = formula.value({name: jnp.asarray(value) for name, value in KNOWN.items()})
    np.testing.assert_allclose(got, CASES[text], rtol=1e-14)
    assert set(formula.names()) <= set(KNOWN)
    low, high = formula.range_of({name: (value, value) for name, value in KNOWN.items()})
    assert low - 1e-12 <= CASES[text] <= high + 1e-12


@pytest.mark.parametrize("text", BAD)
def test_what_the_grammar_lacks_is_told_with_its_column(text: str) -> None:
    problems = Problems()
    read_formula(text, problems, "Reaction 'r'")
    (problem,) = problems.found
    assert problem.code == "E_FORMULA"
    assert problem.message.startswith("Reaction 'r': the formula '")
    assert BAD[text] in problem.message


leaves = st.one_of(st.sampled_from(["x", "y"]), st.integers(0, 90).map(lambda v: f"{v / 10:g}"))
texts = st.recursive(
    leaves,
    lambda part: st.one_of(
        st.tuples(part, st.sampled_from("+-*/^"), part).map(lambda t: f"({t[0]} {t[1]} {t[2]})"),
        part.map(lambda t: f"-{t}"),
        st.tuples(st.sampled_from(sorted(FUNCTIONS)), part, part, part).map(
            lambda t: f"{t[0]}({', '.join(t[1 : 1 + FUNCTIONS[t[0]]])})"
        ),
    ),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(texts, st.integers(0, 40), st.integers(0, 40))
def test_bounds_hold(text: str, tenths: int, others: int) -> None:
    problems = Problems()
    formula = read_formula(text, problems)
    if problems:  # divides numbers by 0
        return
    with jax.disable_jit():
        got = float(np.asarray(formula.value({"x": jnp.asarray(0.1 * tenths), "y": jnp.asarray(0.1 * others)})))
    low, high = formula.range_of({"x": (0.0, np.inf), "y": (0.0, np.inf)})
    if np.isfinite(got):
        assert not low > got + 1e-9 * abs(got)
        assert not high < got - 1e-9 * abs(got)


FILE = """
schema_version = 1
kind = "reaction_system"
time_unit = "h"
inputs = ["light"]
[start]
A = 1.5
[constants]
most = 3.0
half = 0.5
[[reactions]]
name = "make"
equation = "0 -> A"
rate = "most * repress(A, half, 2) * (1 + light)"
[[reactions]]
name = "turn"
equation = "2 A -> B"
rate = "most / (half + A)"
[[reactions]]
name = "lose"
equation = "B -> 0"
rate = 0.25
"""


def test_a_law_is_a_factor_before_its_reactants(tmp_path) -> None:
    file = tmp_path / "x.toml"
    file.write_text(FILE)
    system = load_system(file).system
    none = Perturbation.none(system.table)
    state = jnp.asarray([0.8, 2.0])
    got = system.propensities(jnp.zeros(()), state, none)
    np.testing.assert_allclose(got, [3 * 0.25 / (0.25 + 0.64), 3 / 1.3 * 0.64, 0.5], rtol=1e-14)
    # Whatever is written, what consumes a species stops with it.
    np.testing.assert_array_equal(system.propensities(jnp.zeros(()), jnp.zeros(2), none)[1:], 0.0)
    save_system(tmp_path / "y.toml", system)
    again = load_system(tmp_path / "y.toml").system
    np.testing.assert_array_equal(again.propensities(jnp.zeros(()), state, none), got)
    lit = Treatment.parse("signal(light)=1").resolve(system.table)
    np.testing.assert_allclose(system.propensities(jnp.zeros(()), state, lit)[0], 2 * got[0], rtol=1e-14)


def test_a_constant_is_an_array_that_compiles_once(tmp_path) -> None:
    (tmp_path / "x.toml").write_text(FILE)
    system = load_system(tmp_path / "x.toml").system
    made = eqx.debug.assert_max_traces(
        lambda s: s.propensities(jnp.zeros(()), s.start, Perturbation.none(s.table)), max_traces=1
    )
    run = eqx.filter_jit(made)
    with_most = [eqx.tree_at(lambda s: s.law.constants["most"], system, jnp.asarray(v)) for v in (1.0, 2.0, 4.0)]
    found = [float(run(changed)[0]) for changed in with_most]
    np.testing.assert_allclose(found, np.array([1, 2, 4]) * 0.25 / (0.25 + 2.25), rtol=1e-14)


def test_all_that_is_wrong_with_rates_is_told_at_once(tmp_path) -> None:
    file = tmp_path / "x.toml"
    bad = FILE.replace("most * repress(A, half, 2)", "most - A").replace("most / (half + A)", "mst / (half + A")
    file.write_text(bad.replace("half = 0.5", "half = 0.5\nA = 1.0"))
    with pytest.raises(PinnsimError) as caught:
        load_system(file)
    for part in ("might turn negative", "not closed (column 16)", "'A' is also a species"):
        assert part in str(caught.value)
    file.write_text(FILE.replace("most / (half + A)", "mst / (half + A)"))
    with pytest.raises(PinnsimError, match=r"has 'mst' \(did you mean 'most'\?\)"):
        load_system(file)


FLOW = """
schema_version = 1
kind = "flow"
time_unit = "min"
[start]
x = -1.0
y = 0.5
[constants]
k = 2.0
"""


def test_flows_descend_an_energy_or_are_written_out(tmp_path) -> None:
    one, other = tmp_path / "a.toml", tmp_path / "b.toml"
    one.write_text(FLOW.replace("[start]", 'energy = "x^4 / 4 - k * x^2 / 2 + x * y^2"\n[start]'))
    other.write_text(FLOW + '[flow]\nx = "k * x - x^3 - y^2"\ny = "-2 * x * y"\n')
    systems = [load_system(file).system for file in (one, other)]
    none = Perturbation.none(systems[0].table)
    fields = [s.vector_field(jnp.zeros(()), s.start, none) for s in systems]
    np.testing.assert_allclose(fields[0], fields[1], rtol=1e-14)
    np.testing.assert_allclose(fields[0], [-2 + 1 - 0.25, 1.0], rtol=1e-14)
    for k, system in enumerate(systems):
        save_system(tmp_path / f"{k}.toml", system)
        again = load_system(tmp_path / f"{k}.toml").system
        np.testing.assert_array_equal(again.vector_field(jnp.zeros(()), system.start, none), fields[k])
    one.write_text(FLOW)
    with pytest.raises(PinnsimError, match=r"E_CONFIG_VALUE.*either `energy` or a formula"):
        load_system(one)
