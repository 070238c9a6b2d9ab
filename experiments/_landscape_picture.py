"""The picture of the GATA1-PU.1 landscape: where the progenitor appears, and the ways over the passes."""

from pathlib import Path

import numpy as np

from pinnsim.dynamics.textbook import gata1_pu1
from pinnsim.landscape import (
    additive,
    continuation,
    find_attractors,
    fokker_planck,
    minimum_action,
    parameter,
    switch_branch,
)
from pinnsim.plot import bifurcation_diagram, phase_portrait, save


def picture(cells: int, path: Path) -> None:
    """Writes it."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(14.0, 5.6), layout="constrained")
    model = gata1_pu1()
    branch = continuation(model, [1.0, 1.0], parameter("law/activation"), 1.0, (0.1, 2.0))
    fates = switch_branch(branch, branch.of_kind("branch point")[0])
    found = find_attractors(model, starts=16)
    stable = found.states[found.stable]
    outer = continuation(model, stable[np.argmax(stable[:, 0])], parameter("law/activation"), 1.0, (0.1, 2.0))
    mirror = continuation(model, stable[np.argmin(stable[:, 0])], parameter("law/activation"), 1.0, (0.1, 2.0))
    bifurcation_diagram(
        [branch, fates, outer, mirror], "GATA1.mrna", knob="self-activation a",
        title="GATA1-PU.1: where the progenitor appears", ax=axes[0],
    )  # fmt: skip
    noise = additive(0.02, 2)
    grid = fokker_planck(model, noise, ([-0.3, -0.3], [2.5, 2.5]), cells)
    low, pass_ = stable[np.argmin(stable[:, 0])], [0.4884248450, 1.5115751550]
    ways = [minimum_action(model, noise, a, b, points=65) for a, b in (
        (low, pass_), (low[::-1], pass_[::-1]), ([1.0, 1.0], pass_), ([1.0, 1.0], pass_[::-1]))]  # fmt: skip

    def flow(states: np.ndarray) -> np.ndarray:
        own = (np.maximum(states, 0) / 0.5) ** 4
        return own / (1 + own) + 1 / (1 + own[..., ::-1]) - states

    phase_portrait(
        flow, ([-0.2, -0.2], [2.3, 2.3]), ("GATA1", "PU.1"), points=found, paths=ways, potential=grid.potential(),
        grid=(grid.centres[0], grid.centres[1]), title="-ln p at D = 0.02, and the ways over the passes",
        simulated=True, ax=axes[1],
    )  # fmt: skip
    save(figure, path)
