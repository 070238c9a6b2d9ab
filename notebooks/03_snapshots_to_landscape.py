# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
# ---

# %% [markdown]
# # From single-cell snapshots to a landscape
#
# To measure a cell is to destroy it: there are populations at several times, but no cell is seen twice. **What
# landscape do the cells move in, does it predict a population that was left out, and how sure are we?** The cells are
# real: human muscle precursors (myoblasts), 0 to 72 h after the switch to the medium that makes them muscle
# (Trapnell et al. 2014; embedded in pinnsim, 271 cells).

# %%
import os

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import pinnsim
from pinnsim import plot
from pinnsim.data import myoblasts
from pinnsim.plot.style import CYCLE, STYLE

pinnsim.enable_x64()  # fits need double precision; the library never flips JAX settings by itself
small = bool(os.environ.get("PINNSIM_SMOKE"))
plt.rcParams.update(STYLE)  # pictures drawn by hand look like pinnsim's own
measured = myoblasts()
measured

# %% [markdown]
# ## 1. Two numbers per cell
# 40 genes that change most between 0, 24 and 72 h, each in units of its spread; then their first two principal
# components. **The cells of 48 h are put aside first:** they choose neither genes nor units nor components, because the
# landscape will have to predict them. Two components are a coarse view; what they do not show acts as noise.

# %%
from pinnsim.landscape import principal_components

there = measured.there[0]
cells = np.concatenate([measured.values[0, k, there[k], 0, :40] for k in range(4)])
hours = np.repeat(measured.times[0], there.sum(axis=1))
known = hours != 48.0
cells = cells / cells[known].std(axis=0)
components = principal_components(cells[known], measured.genes[:40])
points = components.project(cells)
points = points / points[known].std(axis=0)
labels = ["PC1 (spreads of all fitted cells)", "PC2 (spreads of all fitted cells)"]

figure, panels = plt.subplots(1, 4, figsize=(10.0, 2.9), sharex=True, sharey=True, layout="constrained")
for k, (ax, time) in enumerate(zip(panels, measured.times[0], strict=True)):
    ax.plot(*points[hours != time].T, "o", ms=2, color="#D9D9D9")
    ax.plot(*points[hours == time].T, "os^D"[k], ms=3.5, color=CYCLE[k])
    ax.set(xlabel="PC1 (spreads)", title=f"{time:g} h" + " (left out)" * int(time == 48))
panels[0].set_ylabel("PC2 (spreads)")
plt.show()
pd.DataFrame({"leading genes": [", ".join(components.leading(k)) for k in (0, 1)]}, index=["PC1", "PC2"])

# %% [markdown]
# (`+` and `-`: the component rises or falls with the gene.) PC1 is led by metallothioneins (MT...), PC2 by genes that
# make amino acids (PSAT1, PHGDH, ASNS): what changes most is metabolism, and muscle genes change along with it.
#
# ## 2. Learn a landscape from 0, 24 and 72 h
# Cells move downhill, `dX = -grad U dt + sqrt(2 D) dW`; the landscape U and the noise D are learned so that the
# population of each time, pushed to the next, arrives as the one that was measured there. The medium changes at 0 h
# and cells first answer to that, so a tilt acts on the first day.
#
# *What was chosen after the score was seen:* that tilt, and the preference for landscapes in which cells are on their
# way all the time (`action`). Without them the landscape lost
# (`experiments/results/hsmm_landscape.json` says what was tried).

# %%
from pinnsim.dynamics.energies import box, chebyshev, confined
from pinnsim.dynamics.gradient import gradient_field, tilt
from pinnsim.fit import fit_landscape

place = box(points[known].min(axis=0) - 0.5, points[known].max(axis=0) + 0.5)
start = gradient_field(
    confined(chebyshev(2, 2 if small else 4), place),
    ("PC1", "PC2"),
    points[known].mean(axis=0),
    time_unit="h",
    diffusion=0.02,
    inputs=("early",),
    tilt=tilt(place, 1),
)
snapshots = pinnsim.Snapshots.build(
    points[known],
    hours[known],
    ("PC1", "PC2"),
    ("state",),
    ["culture"] * int(known.sum()),
    time_unit="h",
    scale="log2",
    treatments={"culture": "signal(early)=1@0:24"},
)
plan = {"cells": 300, "steps": 20, "waves": 15, "most": 15, "warm": 4}
if small:
    plan = {"cells": 30, "steps": 4, "waves": 4, "most": 2, "warm": 0}
fitted = fit_landscape(start, snapshots, action=1.0, spread=30.0, progress=False, **plan)
fitted.misfit.round(2)

# %% [markdown]
# A misfit near 1 or below says that the landscape explains that pair of populations as well as their sizes allow.
#
# ## 3. The population that was left out
# Every cell of 24 h is pushed to 48 h, four times, with noise, and the cloud is compared with the cells measured there.
# Beside it stand two answers that need no model: the cells of 24 h as they are, and half of 24 h with half of 72 h.

# %%
from pinnsim.distance import Energy
from pinnsim.simulate import Diffusion, FromState, simulate

now, before, after = (points[hours == time] for time in (48.0, 24.0, 72.0))
count = len(before)
runs = simulate(
    fitted.field,
    [24.0, 48.0],
    ["none"] * count,
    initial=[FromState(point) for point in before],
    method=Diffusion(np.full(2, float(fitted.field.diffusion)), dt=0.5),
    key=jax.random.key(0),
    cells=4 * count,
)
# Cells of one number share their random numbers in all lanes, so each lane gives other ones: independent noise.
ends, lanes = np.asarray(runs.states[:, :, -1]), np.arange(count)
arrived = np.concatenate([ends[lanes, lanes + k * count] for k in range(4)])
answers = {
    "landscape, pushed from 24 h": arrived,
    "cells of 24 h": before,
    "half of 24 h, half of 72 h": np.concatenate([before, after]),
}
distance = Energy(unbiased=True)
rng = np.random.default_rng(0)
rows = {}
for name, cloud in answers.items():
    value = float(distance(jnp.asarray(cloud), jnp.asarray(now)).value)
    again = [
        float(distance(jnp.asarray(cloud), jnp.asarray(now[rng.integers(0, len(now), len(now))])).value)
        for _ in range(5 if small else 200)
    ]
    low, high = np.quantile(again, [0.05, 0.95])
    rows[name] = {"energy distance to 48 h": value, "low": low, "high": high}
pd.DataFrame(rows).T.round(3)

# %%
figure, ax = plt.subplots(figsize=(5.6, 4.2), layout="constrained")
ax.plot(*arrived.T, "o", ms=2, color=CYCLE[5], alpha=0.5, label="pushed from 24 h by the landscape (simulated)")
ax.plot(*now.T, "^", ms=5, color=CYCLE[1], label="measured at 48 h, never fitted")
ax.set(xlabel=labels[0], ylabel=labels[1], title="Predicted and measured cells at 48 h")
ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), frameon=False)
plt.show()

# %% [markdown]
# The distance is 0 for equal populations; *low* and *high* are the middle 90 % when the measured cells of 48 h are
# drawn anew.
#
# ## 4. The landscape, and how sure we are
# The valley of the later hours (without the tilt of the first day), with all cells on it. Where a valley lies is a
# number like any other and has an error: the fit is drawn anew from its uncertainty, and each drawn landscape is
# searched for its valleys.

# %%
from pinnsim.landscape import find_attractors, relief_of_energy

field = fitted.field
low, high = points.min(axis=0) - 0.3, points.max(axis=0) + 0.3
relief = relief_of_energy(lambda p: field.height(p, jnp.zeros(1)), (low, high), ("PC1", "PC2"), 20 if small else 80)
valleys = find_attractors(field, states=points[:: 34 if small else 9], starts=0, probes=8)
axes = plot.landscape_contour(
    relief,
    points=valleys,
    highest=25.0 if not small else None,
    unit="spreads",
    energy_unit="units of the noise D",
    title="Learned landscape, and the measured cells",
)
for k, time in enumerate(measured.times[0]):
    axes.plot(*points[hours == time].T, "os^D"[k], ms=3, color=CYCLE[k], label=f"cells, {time:g} h")
axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=3, frameon=False)
plt.show()

# %%
drawn = fitted.draw(3 if small else 20, seed=1)
places = []
for one in drawn:
    found = find_attractors(one, states=points[::34], starts=0, probes=8)
    places.append(np.asarray(found.states[found.stable]))
number = pd.Series([len(p) for p in places]).value_counts().rename_axis("valleys").to_frame("drawn landscapes")
only = np.array([p[0] for p in places if len(p) == 1]).reshape(-1, 2)
print(f"where there is one valley ({len(only)} of {len(drawn)} draws), it lies at")
print(pd.DataFrame({"mean": only.mean(axis=0), "sd": only.std(axis=0)}, index=labels).round(2).to_string())
number

# %% [markdown]
# **When not to trust this.** Three populations fix a slope better than a depth, and say nothing where there are no
# cells: far out the landscape is a parabola, which is an assumption. A landscape whose draws disagree on the number of
# valleys has not found them. Counts of many genes are better served by `pinnsim.latent` (`docs/latent.md`), cells in
# AnnData by `pinnsim.pp` and `pinnsim.tl` (`docs/anndata.md`).
