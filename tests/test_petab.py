"""PEtab problems are what the standard says: small ones against closed forms, gradients against differences, the
official suite and published problems in `experiments/petab_suite.py`."""

import math

import jax.numpy as jnp
import numpy as np
import petab_problems as own
import pytest
from scipy import stats

from pinnsim.errors import PinnsimError
from pinnsim.formats.petab.fit import _Descent, _Look, fit_petab
from pinnsim.formats.petab.math import read_math
from pinnsim.formats.petab.noise import log_density, log_prior
from pinnsim.formats.petab.problem import read_petab, stiff_method
from pinnsim.formats.petab.tables import Parameter

pytest.importorskip("libsbml", reason="python-libsbml is not installed (pip install 'pinnsim[sbml]')")
pytest.importorskip("yaml", reason="PyYAML is not installed (pip install 'pinnsim[petab]')")

K1, K2, SCALE, SD = 0.7, 0.4, 2.0, 0.3
TIMES = np.array([1.0, 3.0, 6.0])
MEASURED = np.array([1.9, 1.2, 1.0])


@pytest.fixture(scope="module")
def rich(tmp_path_factory):
    """Version 2: rest, two periods, a reset, placeholders, noise of four kinds, a measurement for ever, an alias."""
    rows = [
        {
            "observableId": "y",
            "experimentId": "e",
            "time": t,
            "measurement": m,
            "observableParameters": "scale;0.1",
            "noiseParameters": "sd",
        }
        for t, m in zip(TIMES, MEASURED, strict=True)
    ]
    rows += [{"observableId": f"n{k}", "experimentId": "e", "time": "inf", "measurement": 0.9} for k in range(3)]
    rows += [{"observableId": "n0", "experimentId": "", "time": 0.0, "measurement": 0.8}]
    path = own.version_two(
        tmp_path_factory.mktemp("rich"),
        parameter=[
            {
                "parameterId": "k2",
                "lowerBound": 0.01,
                "upperBound": 10,
                "nominalValue": K2,
                "estimate": "true",
                "priorDistribution": "normal",
                "priorParameters": "0.5;0.2",
            },
            {"parameterId": "scale", "lowerBound": 0.1, "upperBound": 9, "nominalValue": SCALE, "estimate": "true"},
            {"parameterId": "sd", "lowerBound": 0.01, "upperBound": 9, "nominalValue": SD, "estimate": "true"},
            {"parameterId": "ka", "lowerBound": 0, "upperBound": 1, "nominalValue": K1, "estimate": "false"},
        ],
        observable=[
            {
                "observableId": "y",
                "observableFormula": "a * seen + b",
                "noiseFormula": "s * max(y, 0.5)",
                "noiseDistribution": "normal",
                "observablePlaceholders": "a;b",
                "noisePlaceholders": "s",
            },
            {"observableId": "n0", "observableFormula": "A", "noiseFormula": "0.2", "noiseDistribution": "laplace"},
            {"observableId": "n1", "observableFormula": "A", "noiseFormula": "0.2", "noiseDistribution": "log-normal"},
            {"observableId": "n2", "observableFormula": "A", "noiseFormula": "0.2", "noiseDistribution": "log-laplace"},
        ],
        condition=[
            {"conditionId": "rest", "targetId": "k1", "targetValue": 0.2},
            {"conditionId": "go", "targetId": "k1", "targetValue": "ka"},
            {"conditionId": "more", "targetId": "A", "targetValue": "A + 2 * ka"},
            {"conditionId": "more", "targetId": "C", "targetValue": 2},
        ],
        experiment=[
            {"experimentId": "e", "time": "-inf", "conditionId": "rest"},
            {"experimentId": "e", "time": 0, "conditionId": "go"},
            {"experimentId": "e", "time": 3, "conditionId": "more"},
        ],
        mapping=[{"petabEntityId": "seen", "modelEntityId": "A"}],
        measurement=rows,
    )
    return read_petab(path, isolated=False)


def _expected(k2=K2):
    """A at the asked times and for ever, by hand; a change of size keeps concentrations."""
    total = 1.5
    a0 = total * k2 / (0.2 + k2)
    first = own.conversion([1.0, 3.0], a0, total - a0, K1, k2)
    begin = first[1] + 2 * K1
    later = own.conversion([0.0, 3.0], begin, total - first[1], K1, k2)
    forever = (begin + total - first[1]) * k2 / (K1 + k2)
    return np.array([first[0], later[0], later[1], forever, forever, forever, 1.0])


def _log_likelihood(k2=K2, scale=SCALE, sd=SD):
    a = _expected(k2)
    y = scale * a[:3] + 0.1
    total = stats.norm(y, sd * np.maximum(y, 0.5)).logpdf(MEASURED).sum()
    total += stats.laplace(a[[3, 6]], 0.2).logpdf([0.9, 0.8]).sum()
    total += stats.norm(np.log(a[4]), 0.2).logpdf(math.log(0.9)) - math.log(0.9)
    return total + stats.laplace(np.log(a[5]), 0.2).logpdf(math.log(0.9)) - math.log(0.9)


def test_periods_rest_and_forever_are_solved(rich):
    found = rich.simulate()["simulation"].to_numpy()
    a = _expected()
    np.testing.assert_allclose(found, [*(SCALE * a[:3] + 0.1), *a[3:]], rtol=1e-7)
    assert rich.outcomes() == {}


def test_the_likelihood_and_its_gradient_are_those_of_the_closed_form(rich):
    values = {"k2": 0.5, "scale": 1.7, "sd": 0.4}
    assert rich.log_likelihood(values) == pytest.approx(_log_likelihood(0.5, 1.7, 0.4), rel=1e-7)
    point = np.array([0.5, 1.7, 0.4])
    value, slope = rich.value_and_gradient(point)
    step = 1e-5
    expected = [
        (_log_likelihood(*(point - step * unit)) - _log_likelihood(*(point + step * unit))) / (2 * step)
        for unit in np.eye(3)
    ]
    assert value == pytest.approx(-_log_likelihood(0.5, 1.7, 0.4), rel=1e-7)
    assert np.max(np.abs(slope - expected)) <= 1e-6 * np.max(np.abs(slope))


def test_priors_are_cut_off_at_the_bounds(rich):
    found = rich.log_priors()
    law = stats.norm(0.5, 0.2)
    assert found["k2"] == pytest.approx(law.logpdf(K2) - math.log(law.cdf(10) - law.cdf(0.01)), rel=1e-12)
    assert found["scale"] == pytest.approx(-math.log(8.9), rel=1e-12)
    assert rich.log_prior() == pytest.approx(sum(found.values()))


def test_values_are_taken_by_name_and_refused_by_name(rich):
    assert rich.names == ("k2", "scale", "sd")
    assert rich.unscaled({"sd": 0.7})["sd"] == pytest.approx(0.7)
    with pytest.raises(PinnsimError, match="'scal' is not estimated.*scale"):
        rich.log_likelihood({"scal": 1.0})
    with pytest.raises(PinnsimError, match="shape"):
        rich.chi2([1.0])


LAWS = {
    "normal": stats.norm(0.4, 0.7),
    "laplace": stats.laplace(0.4, 0.7),
    "cauchy": stats.cauchy(0.4, 0.7),
    "uniform": stats.uniform(0.4, 0.3),
    "log-uniform": stats.loguniform(0.4, 0.7),
    "gamma": stats.gamma(0.4, scale=0.7),
    "log-normal": stats.lognorm(0.7, scale=math.exp(0.4)),
    "exponential": stats.expon(scale=0.4),
    "rayleigh": stats.rayleigh(scale=0.4),
    "chisquare": stats.chi2(0.4),
}


@pytest.mark.parametrize("kind", LAWS)
def test_priors_are_scipys(kind):
    count = 1 if kind in ("exponential", "rayleigh", "chisquare") else 2
    one = Parameter("p", 0.5, 0.45, 0.65, True, prior=(kind, (0.4, 0.7)[:count]))
    law = LAWS[kind]
    expected = law.logpdf(0.5) - math.log(law.cdf(0.65) - law.cdf(0.45))
    assert float(log_prior(one, jnp.asarray(0.5))) == pytest.approx(expected, rel=1e-9)
    assert float(log_prior(one, jnp.asarray(0.9))) == -math.inf


def test_log10_noise_is_a_density():
    m = np.linspace(1e-3, 40.0, 200_001)
    for noise in ("log10-normal", "log10-laplace", "log-normal"):
        density = np.exp(np.asarray(log_density(noise, jnp.asarray(m), jnp.full(m.shape, 1.3), jnp.full(m.shape, 0.2))))
        assert np.trapezoid(density, m) == pytest.approx(1.0, abs=2e-3)


def test_version_one_is_read_with_scales_and_conditions(tmp_path):
    path = own.version_one(
        tmp_path,
        parameter=[
            {
                "parameterId": "k2",
                "parameterScale": "log10",
                "lowerBound": 0.01,
                "upperBound": 10,
                "nominalValue": K2,
                "estimate": 1,
            },
            {
                "parameterId": "sd",
                "parameterScale": "lin",
                "lowerBound": 0.01,
                "upperBound": 10,
                "nominalValue": SD,
                "estimate": 1,
                "objectivePriorType": "parameterScaleNormal",
                "objectivePriorParameters": "0.2;0.1",
            },
            {
                "parameterId": "a",
                "parameterScale": "log",
                "lowerBound": 0.1,
                "upperBound": 10,
                "nominalValue": 0.9,
                "estimate": 0,
            },
        ],
        observable=[
            {
                "observableId": "y",
                "observableFormula": "observableParameter1_y * A",
                "observableTransformation": "log10",
                "noiseFormula": "noiseParameter1_y",
            }
        ],
        condition=[
            {"conditionId": "rest", "k1": 0.2, "A": "", "B": ""},
            {"conditionId": "c", "k1": "", "A": "a", "B": "NaN"},
        ],
        measurement=[
            {
                "observableId": "y",
                "preequilibrationConditionId": "rest",
                "simulationConditionId": "c",
                "time": t,
                "measurement": m,
                "observableParameters": 3,
                "noiseParameters": "sd",
            }
            for t, m in zip(TIMES, MEASURED, strict=True)
        ],
    )
    problem = read_petab(path, isolated=False)
    b0 = 1.5 - 1.5 * K2 / (0.2 + K2)
    # k1 has no cell of its own in the second condition: it is the model's 0.8 again, not that of the rest.
    y = 3 * own.conversion(TIMES, 0.9, b0, 0.8, K2)
    expected = np.sum(stats.norm(np.log10(y), SD).logpdf(np.log10(MEASURED)) - np.log(MEASURED * math.log(10)))
    assert problem.log_likelihood() == pytest.approx(expected, rel=1e-7)
    np.testing.assert_allclose(problem.nominal, [math.log10(K2), SD])
    assert problem.log_prior() == pytest.approx(stats.norm(0.2, 0.1).logpdf(SD), rel=1e-9)


def test_a_fit_finds_what_made_the_data(tmp_path):
    times = np.array([0.0, 0.5, 1.0, 2.0, 4.0])
    exact = own.conversion(times, 1.0, 0.5, 0.8, 0.3) * 2.5
    path = own.version_two(
        tmp_path,
        parameter=[
            {"parameterId": "k2", "lowerBound": 0.01, "upperBound": 3, "nominalValue": 1, "estimate": "true"},
            {"parameterId": "scale", "lowerBound": 0.1, "upperBound": 9, "nominalValue": 1, "estimate": "true"},
        ],
        observable=[{"observableId": "y", "observableFormula": "scale * A", "noiseFormula": "0.1"}],
        measurement=[
            {"observableId": "y", "experimentId": "", "time": t, "measurement": m}
            for t, m in zip(times, exact, strict=True)
        ],
    )
    found = fit_petab(read_petab(path, isolated=False), 2, method=stiff_method(1e-8, 1e-10), progress=False)
    np.testing.assert_allclose(found.best, [0.3, 2.5], rtol=1e-5)
    assert found.objective[0] <= found.objective[1]


def waves(moved):
    """sum 1 - cos(2 pi x) + x^2 / 20: a valley at every whole number, the deepest at 0."""
    value = np.sum(1 - np.cos(2 * np.pi * moved) + moved**2 / 20, axis=1)
    slope = 2 * np.pi * np.sin(2 * np.pi * moved) + moved / 10
    bend = np.abs(4 * np.pi**2 * np.cos(2 * np.pi * moved)) + 0.1
    return _Look(value, slope, bend[:, :, None] * np.eye(2))


def test_starts_settle_in_small_steps_and_hops_go_from_the_best_to_a_better_valley():
    draw = np.random.default_rng(3)
    begin = draw.uniform(1.6, 3.9, (16, 2))
    descent = _Descent(waves, np.array([[-4.0, -4.0], [4.0, 4.0]]), begin, waves(begin), draw)
    alone = None
    for _ in range(2000):
        if descent.over:
            break
        before, free = descent.moved.copy(), descent.settled.copy()
        descent.turn()
        going = ~free & ~descent.settled
        assert np.all(np.abs(descent.moved - before)[going] <= 0.1 * 8 + 1e-12)
        if alone is None and descent.settled.all():
            alone = descent.places.copy()
    assert descent.over
    # The deepest valleys are two and more away from all starts; those that were not the best stay where they settled.
    assert descent.alone > 0.2
    assert np.min(descent.ends) < 0.051
    kept = np.argsort(descent.ends)[1:]
    assert np.all(np.abs(descent.places[kept] - alone[kept]) < 1e-9)
    np.testing.assert_allclose(waves(descent.places).value, descent.ends)


def test_formulas_have_the_words_of_petab():
    from pinnsim.dynamics.operations import evaluate
    from pinnsim.errors import Problems

    problems = Problems()
    for text, value in {
        "log(8, 2) + ln(exp(1)) + log10(100)": 6.0,
        "exp10(2) - pow(3, 2)": 91.0,
        "-2^2": -4.0,
        "piecewise(1, x > 2 && !(x < 3), 7)": 1.0,
        "piecewise(1, x > 4 || x == 0, 7)": 7.0,
        "min(3, x, 2) * sign(-x)": -2.0,
        "heaviside(x) + asin(0) + true": 2.0,
        "1.25E-07 * 1e7": 1.25,
    }.items():
        tree = read_math(text, problems, "here")
        assert float(evaluate(tree, {"x": np.float64(3.0)}, np)) == pytest.approx(value), text
    assert not problems
    for text in ("__import__(1)", "a.b(1)", "x @ y", "x if y", "(" * 60 + "x" + ")" * 60, "log(1, 2, 3)", "x ="):
        read_math(text, problems, "here")
    assert [problem.code for problem in problems.found] == ["E_FORMULA"] * 7
