"""Gene kinetics written as SBML are the same kinetics: read again, and run by libroadrunner, they agree with ours."""

import jax.numpy as jnp
import numpy as np
import pytest

from pinnsim.dynamics.regulation import hill_average
from pinnsim.errors import PinnsimError
from pinnsim.formats.sbml.read import read_sbml
from pinnsim.formats.sbml.write import write_sbml
from pinnsim.parameter import resolve
from pinnsim.perturbation import Perturbation
from pinnsim.simulate import ODE, simulate
from pinnsim.simulate.initial import FromState
from pinnsim.specimens import model_of, random_state, randomised
from pinnsim.treatment import as_treatment, resolve_lanes
from pinnsim.tree import lane

pytest.importorskip("libsbml", reason="python-libsbml is not installed (pip install 'pinnsim[sbml]')")

KINDS = {
    "plain": {},
    "spliced, with protein": {"layers": ("unspliced", "spliced", "protein")},
    "hidden": {"unmeasured": 1, "own_inputs": True},
}


def _slope(names, kinetics, found):
    """dx/dt of a model that was read again, in our order, on the host."""
    host = found.on_host()
    places = {name.removesuffix(" amount"): k for k, name in enumerate(found.states)}
    order = [places[names[own]] for own in kinetics.table.species]
    return host.begin[order], host.slope(0.0, host.begin)[order]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_read_again_moves_as_ours(kind, tmp_path):
    kinetics = resolve(randomised(model_of(**KINDS[kind]), 3).kinetics)
    state = random_state(kinetics, 1, 0.5)
    names = write_sbml(kinetics, tmp_path / "m.xml", state)
    begin, slope = _slope(names, kinetics, read_sbml(tmp_path / "m.xml", isolated=False))
    ours = kinetics.vector_field(jnp.zeros(()), state, Perturbation.none(kinetics.table))
    np.testing.assert_allclose(begin, np.asarray(state), rtol=1e-15)
    np.testing.assert_allclose(slope, np.asarray(ours), rtol=1e-11, atol=1e-13)


def test_averaged_hill_terms_are_written(tmp_path):
    import equinox as eqx

    kinetics = model_of(own_inputs=True).kinetics
    source, target = np.asarray(kinetics.promoter.source), np.asarray(kinetics.promoter.target)
    sign = np.where(np.arange(len(source)) % 3 == 0, 0, np.where(np.arange(len(source)) % 2, 1, -1))
    promoter = hill_average(source, target, sign, kinetics.genes, hill=1.5, affinity=0.7)
    kinetics = resolve(eqx.tree_at(lambda k: k.promoter, kinetics, promoter))
    state = random_state(kinetics, 2, 0.5)
    names = write_sbml(kinetics, tmp_path / "m.xml", state)
    _, slope = _slope(names, kinetics, read_sbml(tmp_path / "m.xml", isolated=False))
    ours = kinetics.vector_field(jnp.zeros(()), state, Perturbation.none(kinetics.table))
    np.testing.assert_allclose(slope, np.asarray(ours), rtol=1e-11, atol=1e-13)


def test_treatments_are_changes_of_factors_and_signals(tmp_path):
    kinetics = resolve(randomised(model_of(("mrna", "protein")), 5).kinetics)
    gene, signal = kinetics.table.genes[1], kinetics.table.inputs[0]
    state = random_state(kinetics, 4, 0.5)
    names = write_sbml(kinetics, tmp_path / "m.xml", state)
    found = read_sbml(tmp_path / "m.xml", isolated=False)
    text = (tmp_path / "m.xml").read_text()
    own = f"transcription:{gene}"
    for name, value in ((f"factor {own}", 0.5), (f"signal {signal}", 0.8)):
        before = f'<parameter id="{names[name]}" name="{name}" value="{1.0 if "factor" in name else 0.0}"'
        assert before in text
        text = text.replace(before, before.rpartition("value=")[0] + f'value="{value}"')
    (tmp_path / "m.xml").write_text(text)
    _, slope = _slope(names, kinetics, read_sbml(tmp_path / "m.xml", isolated=False))
    treated = lane(resolve_lanes([as_treatment(f"reaction({own})*0.5, signal({signal})=0.8")], kinetics.table, None), 0)
    ours = kinetics.vector_field(jnp.zeros(()), state, treated)
    np.testing.assert_allclose(slope, np.asarray(ours), rtol=1e-11, atol=1e-13)
    assert found.time_unit == kinetics.time_unit


def test_libroadrunner_agrees_with_simulate(tmp_path):
    roadrunner = pytest.importorskip("roadrunner")
    kinetics = resolve(randomised(model_of(), 7).kinetics)
    state = jnp.abs(random_state(kinetics, 6, 0.5))
    names = write_sbml(kinetics, tmp_path / "m.xml", state)
    runner = roadrunner.RoadRunner(str(tmp_path / "m.xml"))
    runner.integrator.relative_tolerance, runner.integrator.absolute_tolerance = 1e-10, 1e-13
    wanted = [names[own] for own in kinetics.table.species]
    theirs = np.array(runner.simulate(0, 20, 5, wanted))
    ours = simulate(kinetics, np.linspace(0, 20, 5), initial=FromState(state), method=ODE(1e-9, 1e-12))
    np.testing.assert_allclose(np.asarray(ours.raise_failures().states[0]), theirs, rtol=1e-6, atol=1e-9)


def test_a_neural_residual_is_refused_or_left_out_and_said(tmp_path):
    model = randomised(model_of(residual="mlp"), 1)
    with pytest.raises(PinnsimError, match="without_residual=True"):
        write_sbml(model, tmp_path / "m.xml")
    assert not (tmp_path / "m.xml").exists()
    write_sbml(model, tmp_path / "m.xml", without_residual=True)
    assert "learned residual is left out" in (tmp_path / "m.xml").read_text()
    with pytest.raises(PinnsimError, match="E_INIT"):
        write_sbml(model, tmp_path / "m.xml", [1.0], without_residual=True)
