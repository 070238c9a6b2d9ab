"""SBML in: models by rule, events included, against closed forms and libroadrunner's answers; formulas against numpy,
host against compiled."""

import math
import subprocess
import sys
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

libsbml = pytest.importorskip("libsbml", reason="python-libsbml is not installed (pip install 'pinnsim[sbml]')")

import sbml_answers  # noqa: E402
import sbml_support  # noqa: E402
from event_models import EVENTS  # noqa: E402
from sbml_models import document, rules, singles, written  # noqa: E402

from pinnsim.dynamics.naming import amount_of, concentration_of, slope_of  # noqa: E402
from pinnsim.dynamics.operations import OPERATIONS  # noqa: E402
from pinnsim.dynamics.rules import RuleSystem  # noqa: E402
from pinnsim.errors import PinnsimError  # noqa: E402
from pinnsim.formats.antimony import read_antimony  # noqa: E402
from pinnsim.formats.sbml.read import parsed_text, read_sbml, system_of  # noqa: E402
from pinnsim.perturbation import Perturbation  # noqa: E402
from pinnsim.simulate import ODE, SSA, LinearNoise, simulate, solve_many  # noqa: E402

TIMES = np.linspace(0.0, 3.0, 7)
SHOWN = ("A amount", "B amount", "A concentration", "B concentration", "C", "k1")


def system_from(text: str) -> RuleSystem:
    return system_of(parsed_text(text.encode(), "test", isolated=False), "test")


def solved(system: RuleSystem, names: tuple[str, ...] = SHOWN) -> np.ndarray:
    """Quantities over time, (time, name), by scipy and numpy alone."""
    host = system.on_host()
    found = solve_ivp(host.slope, (0.0, TIMES[-1]), host.begin, t_eval=TIMES, method="LSODA", rtol=1e-9, atol=1e-11,
                      max_step=0.5, first_step=1e-4)  # fmt: skip
    rows = [host.known(time, state) for time, state in zip(TIMES, found.y.T, strict=True)]
    return np.array([[row[name] for name in names] for row in rows])


def _left(rate: float) -> np.ndarray:
    return 3.0 * np.exp(-rate * TIMES)


_SWITCHED = np.where(TIMES < 1.3, 0.7 * TIMES, 0.7 * 1.3 + 0.14 * (TIMES - 1.3))
EXACT: dict[tuple[tuple[str, str], ...], tuple[np.ndarray, np.ndarray]] = {
    # amounts of A and B
    (): (_left(0.7), 3.5 - _left(0.7)),
    (("volume", "larger"),): (_left(0.7), 3.5 - _left(0.7)),
    (("volume", "growing"),): (_left(0.7), 3.5 - _left(0.7)),
    (("volume", "larger"), ("substance", "amounts")): (_left(1.75), 3.5 - _left(1.75)),
    (("law", "local"),): (_left(0.4), 3.5 - _left(0.4)),
    (("law", "switched"),): (3.0 * np.exp(-_SWITCHED), 3.5 - 3.0 * np.exp(-_SWITCHED)),
    (("count", "two"),): (_left(1.4), 0.5 + 0.5 * (3.0 - _left(1.4))),
    (("count", "half"),): (_left(0.35), 0.5 + 2.0 * (3.0 - _left(0.35))),
    (("count", "initial"),): (_left(0.735), 0.5 + (3.0 - _left(0.735)) / 1.05),
    (("start", "assigned"), ("volume", "larger")): (2.0 * _left(0.7), 0.5 + 6.0 - 2.0 * _left(0.7)),
    (("start", "concentration"), ("volume", "growing")): (
        4.25 / 3.0 * _left(0.7),
        4.75 - 4.25 / 3.0 * _left(0.7),
    ),
    (("kind", "boundary"),): (np.full(7, 3.0), 0.5 + 2.1 * TIMES),
    (("kind", "constant"), ("factor", "species")): (np.full(7, 3.0), 0.5 + 1.6 * 2.1 * TIMES),
    (("kind", "ruled"),): (0.4 * _left(0.4), 0.5 + 0.7 * (1.2 - 0.4 * _left(0.4)) / 0.4),
    (("factor", "species"),): (_left(0.7), 0.5 + 1.6 * (3.0 - _left(0.7))),
    (("constant", "ruled"),): (
        3.0 * np.exp(-0.7 * (1.0 - np.exp(-0.3 * TIMES)) / 0.3),
        3.5 - 3.0 * np.exp(-0.7 * (1.0 - np.exp(-0.3 * TIMES)) / 0.3),
    ),
    (("constant", "assigned"),): (
        3.0 * np.exp(-0.5 * TIMES - 0.1 * np.sin(3.0 * TIMES) / 3.0),
        3.5 - 3.0 * np.exp(-0.5 * TIMES - 0.1 * np.sin(3.0 * TIMES) / 3.0),
    ),
}


@pytest.mark.parametrize("choices", EXACT, ids=lambda c: "+".join(f"{axis} {name}" for axis, name in c) or "base")
def test_amounts_are_those_of_the_closed_form(choices: tuple) -> None:
    got = solved(system_from(written(*choices)))
    np.testing.assert_allclose(got[:, :2], np.array(EXACT[choices]).T, rtol=1e-6, atol=1e-8)
    size = {"larger": np.full(7, 2.5), "growing": 2.5 * np.exp(0.2 * TIMES)}.get(dict(choices).get("volume"), 1.0)
    np.testing.assert_allclose(got[:, 2:4], got[:, :2] / np.broadcast_to(size, 7)[:, None], rtol=1e-6)


def test_every_construct_alone_and_in_pairs_has_libroadrunners_answer() -> None:
    """In a process without checks of types at every call, which take ten times longer than the models."""
    check = [sys.executable, str(Path(sbml_answers.__file__)), "--check"]
    done = subprocess.run(check, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "sbml_answers.csv: 310 models; scipy differs for []",
        "event_answers.csv: 136 models; scipy differs for []",
    ]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of libroadrunner's bindings
def test_the_tables_are_what_libroadrunner_says() -> None:
    pytest.importorskip("roadrunner", reason="libroadrunner is not installed: the tables are taken as they are")
    for path, made, times, names in sbml_answers.TABLES:
        kept, models = sbml_answers.read(path), made()
        for name in [*models][::70]:
            got = sbml_answers.answer(models[name], times, names)
            np.testing.assert_allclose(got, kept[name], rtol=1e-6, atol=1e-8, err_msg=name)


def test_what_is_published_as_understood_is_what_is_tested() -> None:
    page = (Path(__file__).parents[1] / "docs" / "sbml.md").read_text(encoding="utf-8")
    assert sbml_support.understood() in page, "run python tests/sbml_support.py for the table"
    rules = {name for row in sbml_support.UNDERSTOOD for name in row.rules}
    assert rules == {f"{axis} {name}" for axis, name in singles()}
    events = {name for row in sbml_support.UNDERSTOOD for name in row.events}
    assert events - {sbml_support.ALL_OF_EVENTS} <= set(EVENTS)
    tests = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_sbml*.py"))
    for name in (name for row in sbml_support.UNDERSTOOD for name in row.tests):
        assert f"def {name}(" in tests


OPERATED = {
    "plus": ("1 + x + 2", 3.7),
    "minus": ("-(x - 2)", 1.3),
    "product": ("3 * x / 2", 1.05),
    "power": ("x^2.5 + (-2)^3", 0.7**2.5 - 8.0),
    "root": ("root(3, 8) + sqrt(x)", 2.0 + math.sqrt(0.7)),
    "logs": ("ln(x) + log10(100) + log(2, 8)", math.log(0.7) + 5.0),
    "exponential": ("exp(-x)", math.exp(-0.7)),
    "roundings": ("abs(-x) + 10*floor(-x) + 100*ceil(x)", 0.7 - 10.0 + 100.0),
    "whole": ("factorial(5) + quotient(7, 2) + rem(-7, 3)", 120.0 + 3.0 - 1.0),
    "extremes": ("min(x, 2, 0.3) + max(x, 2)", 2.3),
    "circular": (
        "sin(x) + cos(x) + tan(x) + sec(x) + csc(x) + cot(x)",
        sum((math.sin(0.7), math.cos(0.7), math.tan(0.7), 1 / math.cos(0.7), 1 / math.sin(0.7), 1 / math.tan(0.7))),
    ),
    "arcs": (
        "arcsin(x) + arccos(x) + arctan(x) + arcsec(2) + arccsc(2) + arccot(2)",
        math.asin(0.7) + math.acos(0.7) + math.atan(0.7) + math.acos(0.5) + math.asin(0.5) + math.atan(0.5),
    ),
    "hyperbolic": (
        "sinh(x) + cosh(x) + tanh(x) + sech(x) + csch(x) + coth(x)",
        sum(
            (math.sinh(0.7), math.cosh(0.7), math.tanh(0.7), 1 / math.cosh(0.7), 1 / math.sinh(0.7), 1 / math.tanh(0.7))
        ),
    ),
    "areas": (
        "arcsinh(x) + arccosh(2) + arctanh(x) + arcsech(0.5) + arccsch(2) + arccoth(2)",
        math.asinh(0.7) + math.acosh(2) + math.atanh(0.7) + math.acosh(2) + math.asinh(0.5) + math.atanh(0.5),
    ),
    "relations": (
        "piecewise(1, x < 1 < 2, 0) + 2*(x >= 0.7) + 4*(x != 1) + 8*(x == 1) + 16*(x > 1) + 32*(x <= 1)",
        39.0,
    ),
    "truths": (
        "piecewise(1, and(x, not(x > 1)), 0) + 2*xor(true, false) + 4*or(false, x > 0) + 8*implies(x > 0, x > 1)",
        7.0,
    ),
    "undefined": ("piecewise(1, x > 1)", math.nan),
    "constants": ("pi + exponentiale + avogadro*1e-23", math.pi + math.e + 6.02214179),
    "endless": ("infinity - x", math.inf),
}


def test_every_operation_has_numpys_value_on_the_host_and_compiled() -> None:
    assigned = rules(**{f"p_{name}": formula for name, (formula, _) in OPERATED.items()})
    text = document(
        assigned.replace("<listOfParameters>", '<listOfParameters><parameter id="x" value="0.7" constant="true"/>')
    )
    system = system_from(text)
    known = system.on_host().known(0.0, np.zeros(1))
    names = tuple(f"p_{name}" for name in OPERATED)
    expected = [value for _, value in OPERATED.values()]
    np.testing.assert_allclose([known[name] for name in names], expected, rtol=1e-13)
    compiled = system.values(names, jnp.zeros(1), jnp.zeros((1, 1)))
    np.testing.assert_allclose(compiled[0], expected, rtol=1e-13)
    used = {operation for level in system.running.levels for form in level for operation in _operations(form.tree)}
    assert used == OPERATIONS - {"hill", "repress"}


def _operations(tree: object) -> set[str]:
    return {tree[0]}.union(*(_operations(part) for part in tree[1:])) if isinstance(tree, tuple) else set()


def test_derivatives_in_formulas_are_those_of_the_solution() -> None:
    text = written(("volume", "growing"), ("constant", "ruled"))
    more = rules(a="rateOf(A)", c="rateOf(C)", k="rateOf(k1)")
    for name in ("Parameters", "Rules"):
        part = more.partition(f"<listOf{name}>")[2].partition(f"</listOf{name}>")[0]
        text = text.replace(f"</listOf{name}>", f"{part}</listOf{name}>")
    found = solved(system_from(text), ("A", "a", "c", "k"))
    growing = 2.5 * np.exp(0.2 * TIMES)
    total = EXACT[(("constant", "ruled"),)][0]
    slope = -0.7 * np.exp(-0.3 * TIMES) * total
    np.testing.assert_allclose(found[:, 1], slope / growing - 0.2 * total / growing, rtol=1e-6)
    np.testing.assert_allclose(found[:, 2], 0.2 * growing, rtol=1e-6)
    np.testing.assert_allclose(found[:, 3], -0.3 * 0.7 * np.exp(-0.3 * TIMES), rtol=1e-6)
    assert slope_of("A") in system_from(text).running.position


def test_compiled_and_host_agree_and_what_follows_from_a_constant_moves_with_it() -> None:
    system = system_from(written(("start", "assigned"), ("law", "regulated")))
    none = Perturbation.none(system.table)
    host = system.on_host()
    field = eqx.filter_jit(lambda system, time, state: system.vector_field(time, state, none))
    for time, state in ((0.0, host.begin), (1.5, host.begin + 0.3)):
        np.testing.assert_allclose(
            field(system, jnp.asarray(time), jnp.asarray(state)), host.slope(time, state), rtol=1e-13
        )

    def begin(k1: jax.Array) -> jax.Array:
        return eqx.tree_at(lambda s: s.constants["k1"], system, k1).default_state()

    value, slope = jax.jvp(begin, (jnp.asarray(0.7),), (jnp.asarray(1.0),))
    assert system.table.species == ("E", "A", "B")
    np.testing.assert_allclose(value, [0.8, 2.4, 0.5])
    np.testing.assert_allclose(slope, [0.0, 2.0, 0.0])
    assert sorted(system.constants) == ["B.start", "C", "E.start", "k1"]


def test_programs_grow_with_forms_not_with_reactions() -> None:
    def chain(count: int) -> RuleSystem:
        lines = [f"S{k} -> S{k + 1}; k{k}*S{k}; k{k} = 0.{k + 1}; S{k} = 1" for k in range(count)]
        lines.append(f"S{count} = 0")
        return read_antimony("; ".join(lines), isolated=False)

    pytest.importorskip("antimony", reason="antimony is not installed (pip install 'pinnsim[sbml]')")
    small, large = chain(4).running, chain(40).running
    assert sum(map(len, small.levels)) == sum(map(len, large.levels))
    assert len(small.levels) == len(large.levels)


PULSE = """
    S -> P; k*S + piecewise(h, (time >= 5) && (time < 5.01), 0)
    S = 1000; P = 0; k = 0.001; h = 5000
"""


def test_a_short_pulse_is_not_stepped_over_and_treatments_act() -> None:
    pytest.importorskip("antimony", reason="antimony is not installed (pip install 'pinnsim[sbml]')")
    model = read_antimony(PULSE, isolated=False)
    (reaction,) = model.table.reactions
    times = np.array([0.0, 4.0, 20.0])
    found = simulate(model, times, ["none", f"reaction({reaction})*0", "hold(S)=2"], method=ODE(rtol=1e-8, atol=1e-8))
    found.raise_failures()
    end = (1000.0 * math.exp(-0.00501) - 50.0) * math.exp(-0.01499)
    got = np.asarray(found.states)
    np.testing.assert_allclose(got[0, :, 0], [1000.0, 1000.0 * math.exp(-0.004), end], rtol=1e-5)
    np.testing.assert_allclose(got[0].sum(axis=1), 1000.0, rtol=1e-12)
    np.testing.assert_allclose(got[1], [[1000.0, 0.0]] * 3)
    np.testing.assert_allclose(got[2, 1:, 0], 2.0)
    np.testing.assert_allclose(got[2, -1, 1], 50.0 + 20.0 * 0.002, rtol=1e-6)
    values = model.values((amount_of("S"), concentration_of("S")), times, found.states[0])
    np.testing.assert_allclose(values[:, 0], got[0, :, 0], rtol=1e-12)


def test_lanes_have_constants_of_their_own() -> None:
    system = system_from(written(("substance", "amounts")))
    begin = jnp.stack([system.default_state()] * 3)
    rates = jnp.asarray([0.1, 0.7, 2.0])
    none = Perturbation.none(system.table)
    found = solve_many(system, TIMES, none, begin, ODE(1e-9, 1e-11), own={"constants/k1": rates})
    np.testing.assert_allclose(found.states[:, :, 0], 3.0 * np.exp(-np.outer(rates, TIMES)), rtol=1e-7)


def test_what_needs_propensities_is_refused() -> None:
    system = system_from(written(("constant", "ruled")))
    with pytest.raises(PinnsimError, match="rate rule"):
        simulate(system, TIMES, method=LinearNoise(100.0))
    with pytest.raises(PinnsimError, match="rate rule"):
        simulate(system, TIMES, method=SSA(100.0), key=jax.random.key(0), cells=2)


def test_a_file_is_read_in_a_process_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "m.xml").write_text(written(("law", "reversible")))
    apart = read_sbml(tmp_path / "m.xml")
    here = read_sbml(tmp_path / "m.xml", isolated=False)
    assert apart.running == here.running
    assert apart.table == here.table
    assert apart.constants == here.constants
