"""Do the models on the shelf hold what their cards say, and can they be made again?

Builds the toggle switch from its closed form and fits the carbon-shift model to both arms, writes both as bundles,
loads them back and checks the facts that their cards state.
"""

from pathlib import Path
from typing import Any

import equinox as eqx
import numpy as np
import pandas as pd

from pinnsim import shelf
from pinnsim.experiment import Acceptance, Findings, main
from pinnsim.fit import cultures, fit, predict_cultures
from pinnsim.fit.effects import with_effects_at_rest
from pinnsim.formats.bundle import load_model, save_model
from pinnsim.landscape import find_attractors
from pinnsim.model import CellModel, ModelConfig, RegulationConfig, build
from pinnsim.network import Network
from pinnsim.prior import KineticPrior, half_life_prior
from pinnsim.project import Project, load_project

SMOKE: dict[str, Any] = {"fit": {"starts": 1, "keep": 1, "collocation_steps": 10, "trajectory_steps": 0}}


def run(plan: dict[str, Any], out: Path, progress: bool = True) -> Findings:
    """Makes both bundles in `out/models` and checks them."""
    folder = out / "models"
    model, config, network, prior = toggle(plan["toggle"]["a"], plan["toggle"]["n"])
    save_model(
        folder / "toggle_switch", model, config, network, prior, notes={"source": "Gardner et al. 2000, Nature 403:339"}
    )
    found = find_attractors(load_model(folder / "toggle_switch").model, starts=32)
    exact = 5 + 2 * np.sqrt(6) * np.array([1.0, -1.0])
    stable = [np.sort(state)[::-1] for state in found.states[found.stable]]
    saddle = found.states[np.array([kind == "saddle" for kind in found.stability])]
    project = load_project(shelf.experiment_path("carbon_shift").with_suffix(".toml"))
    fit_plan = project.config.fit.model_copy(update=plan["fit"])
    models, rms, gap = carbon_shift(project, fit_plan, folder / "carbon_shift", progress)
    rows = (
        Acceptance("toggle: number of attractors short of 2", 2 - len(stable), 0),
        Acceptance(
            "toggle: attractors against 5 +- 2 sqrt 6, largest error",
            max(float(np.abs(s - exact).max()) for s in stable),
            1e-8,
        ),
        Acceptance(
            "toggle: saddle against (2, 2), largest error",
            float(np.abs(saddle - 2).max()) if len(saddle) else np.inf,
            1e-8,
        ),
        Acceptance("carbon shift: predictions of the loaded bundle less those of the saved model, largest", gap, 0.0),
    )
    return Findings({"carbon shift, fitted RMSE (log2)": rms, "members": int(models)}, {}, rows)


def toggle(a: float, n: float, odds: float = 1e-2) -> tuple[CellModel, ModelConfig, Network, KineticPrior]:
    """Gardner's toggle `u' = a / (1 + v^n) - u` and its mirror as two genes with perfect repressors; time in hours.

    A promoter is active with probability `1 / (1 + q (1 + theta))`, q = `odds` and theta = (v / K)^n; with
    `c = a (1 + q)` and `K^n = q / (1 + q)` that is the textbook form for any q.
    """
    network = Network.from_frame(
        pd.DataFrame({"source": ["v", "u"], "target": ["u", "v"], "sign": [-1, -1]}), genes=("u", "v")
    )
    lifetime = pd.DataFrame(
        {
            "gene": ["u", "v"],
            "half_life": [np.log(2)] * 2,
            "unit": ["h"] * 2,
            "source": ["by definition: lifetime 1 h"] * 2,
        }
    )
    prior = half_life_prior(lifetime, network.genes, time_unit="h")
    regulation = RegulationConfig(
        hidden="none",
        strength=90.0,
        strength_sd=0.0,
        affinity=(odds / (1 + odds)) ** (1 / n),
        affinity_sd=0.0,
        hill=n,
        basal=-np.log(odds),
    )
    config = ModelConfig(time_unit="h", synthesis=a * (1 + odds), regulation=regulation)
    return build(config, network, prior).center, config, network, prior


def carbon_shift(project: Project, plan: Any, folder: Path, progress: bool) -> tuple[int, float, float]:
    """Fits both arms, saves the ensemble, and compares what comes back."""
    prior = build(project.config.model, project.network, project.prior)
    data = cultures(project.dataset, prior.center.table, substeps=plan.substeps)
    models = with_effects_at_rest(
        fit(prior, project.dataset, plan, progress=progress, label="carbon shift").models, prior, data
    )
    save_model(
        folder,
        models,
        project.config.model,
        project.network,
        project.prior,
        data_digest=project.dataset.digest(),
        notes={
            "data": project.dataset.source,
            "inputs": "glucose and malate: 1 = present; late: 1 = after about 85 min",
        },
    )
    saved, loaded = (predict_cultures(m, data, plan) for m in (models, load_model(folder).ensemble))
    error = (saved.mean(axis=0) - np.asarray(data.readings))[:, 1:]
    members = eqx.filter(models, eqx.is_array).kinetics.hidden.effect.shape[0]
    return members, float(np.sqrt((error**2).mean())), float(np.abs(saved - loaded).max())


if __name__ == "__main__":
    raise SystemExit(main(__file__))
