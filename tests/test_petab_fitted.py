"""A fit written as a PEtab problem is the same fit: read again it gives the same readings and the same likelihood, and
what PEtab cannot say is refused by name."""

import equinox as eqx
import numpy as np
import pytest
from scipy import stats

from pinnsim.data import Dataset
from pinnsim.errors import PinnsimError
from pinnsim.fit import FitPlan, cultures
from pinnsim.fit.objective import scored_readings
from pinnsim.formats.petab.fitted import write_fit
from pinnsim.formats.petab.problem import read_petab, stiff_method
from pinnsim.observation import LikelihoodConfig, ReadoutConfig, observation_of
from pinnsim.parameter import resolve
from pinnsim.simulate import ODE, FromSample, simulate
from pinnsim.specimens import model_of, randomised

pytest.importorskip("libsbml", reason="python-libsbml is not installed (pip install 'pinnsim[sbml]')")
pytest.importorskip("yaml", reason="PyYAML is not installed (pip install 'pinnsim[petab]')")

TIMES = (0.0, 1.0, 3.0, 6.0)
PLAN = FitPlan()


def measured(model, treatments, sd=None) -> Dataset:
    """Readings near what the model reads at its default state; which ones does not matter."""
    genes = model.table.genes
    draw = np.random.default_rng(5)
    values = draw.uniform(11.0, 13.0, (len(treatments), 1, len(TIMES), len(genes)))
    return Dataset.build(
        values, np.array(TIMES), genes, tuple(treatments), ("r1",), treatments=treatments, time_unit="h", scale="log2",
        sd=sd, simulated=True,
    )  # fmt: skip


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A model with arrays, three treatments, one of them with a switch on the way; its problem, read again."""
    model = randomised(model_of(own_inputs=True), 3)
    genes = len(model.table.genes)
    model = eqx.tree_at(
        lambda m: m.observation,
        model,
        observation_of(ReadoutConfig(kind="array", offset=12.0), LikelihoodConfig(sd=0.4), genes),
    )
    signal, gene = model.table.inputs[0], model.table.genes[0]
    data = measured(
        model,
        {"none": "none", "signal": f"signal({signal})=1@0:", "late": f"{gene}=0@2:, signal({signal})=0.5@2:4"},
    )
    path = write_fit(model, data, PLAN, tmp_path_factory.mktemp("fit") / "problem")
    return model, data, read_petab(path, isolated=False)


def test_a_written_fit_gives_the_same_readings(written):
    model, data, problem = written
    shown = problem.simulate(method=stiff_method(1e-9, 1e-12))
    ran = simulate(
        model,
        np.array(TIMES),
        data.treatments,
        initial=[FromSample(first[0, 0]) for first in data.values],
        method=ODE(1e-10, 1e-12, stiff=True),
    )
    for condition, ours in zip(data.conditions, np.asarray(ran.readings)[:, 1:], strict=True):
        theirs = shown[shown["experimentId"] == f"{condition}_r1"]["simulation"].to_numpy()
        np.testing.assert_allclose(theirs.reshape(ours.shape), ours, rtol=1e-6)


def test_a_written_fit_has_the_likelihood_of_its_noise(written):
    model, data, problem = written
    table = cultures(data, model.table)
    scored = np.asarray(scored_readings(table, PLAN.settings()))
    simulated = problem.simulate()["simulation"].to_numpy()
    expected = stats.norm(simulated, 0.4).logpdf(np.asarray(table.readings)[scored]).sum()
    assert problem.log_likelihood() == pytest.approx(expected, rel=1e-9)
    rates = [name for name in problem.names if name.startswith("rate_")]
    assert len(rates) == len(resolve(model).kinetics.table.reactions)


def test_errors_in_proportion_to_the_reading_are_written(written, tmp_path):
    model, data, _ = written
    genes = len(model.table.genes)
    noise = LikelihoodConfig(kind="combined", sd=0.1, least=0.3)
    linear = observation_of(ReadoutConfig(kind="linear", scale=8.0, background=1.0), noise, genes)
    model = eqx.tree_at(lambda m: m.observation, model, linear)
    problem = read_petab(write_fit(model, data, PLAN, tmp_path / "problem"), isolated=False)
    table = cultures(data, model.table)
    scored = np.asarray(scored_readings(table, PLAN.settings()))
    simulated = problem.simulate()["simulation"].to_numpy()
    width = np.sqrt((0.1 * simulated) ** 2 + 0.3**2)
    expected = stats.norm(simulated, width).logpdf(np.asarray(table.readings)[scored]).sum()
    assert problem.log_likelihood() == pytest.approx(expected, rel=1e-9)


def test_what_petab_cannot_say_is_refused(written, tmp_path):
    model, data, _ = written
    gene, genes = model.table.genes[0], len(model.table.genes)
    heavy = eqx.tree_at(
        lambda m: m.observation.likelihood,
        model,
        observation_of(ReadoutConfig(), LikelihoodConfig(kind="student_t"), genes).likelihood,
    )
    held = measured(model, {"held": f"hold({gene}.mrna)=1@0:"})
    with pytest.raises(PinnsimError) as refused:
        write_fit(heavy, held, PLAN, tmp_path / "problem")
    assert refused.value.codes == ("E_PETAB_UNSUPPORTED",) * 2
    assert "StudentT" in str(refused.value)
    assert not (tmp_path / "problem").exists()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "there").touch()
    with pytest.raises(PinnsimError, match="E_DISK"):
        write_fit(model, data, PLAN, tmp_path / "full")
