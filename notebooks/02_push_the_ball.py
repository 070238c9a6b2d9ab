# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
# ---

# %% [markdown]
# # Push the ball
#
# A cell rests in a valley. A perturbation of some dose, for some time, drives it up a hill; then it is let go.
# **Where does it settle, how likely is that, and what is the least that moves it?**
# Two textbook switches answer: a pair of genes that repress each other, and the GATA1-PU.1 pair that decides between
# blood lineages. Everything here is simulated.

# %%
import os

import jax
import matplotlib.pyplot as plt
import numpy as np

import pinnsim
from pinnsim import plot, shelf

pinnsim.enable_x64()  # the library never flips JAX settings by itself
small = bool(os.environ.get("PINNSIM_SMOKE"))

# %% [markdown]
# ## 1. Where can it rest?
# `find_attractors` follows many starts along the flow, polishes where they end, and certifies every fixed point:
# residual, eigenvalues, stability.

# %%
from pinnsim.landscape import find_attractors

toggle = shelf.load("toggle_switch").model
valleys = find_attractors(toggle)
print(valleys.describe())
valleys.table().iloc[:, :5]

# %% [markdown]
# ## 2. Push, let go, and look
# Every dose with every duration, in one compiled program. The line is the critical duration of each dose, found by
# bisection: below it the cell falls back. Molecules are few, so near the line chance
# decides: 100 cells per push, simulated jump by jump (5 molecules per unit of abundance). The paler a cell of the
# map, the less sure its valley is.

# %%
from pinnsim.landscape import fate_map
from pinnsim.simulate import SSA

steps, runs = (4, 5) if small else (20, 100)
low = valleys.states[valleys.stable][np.argmin(valleys.states[valleys.stable][:, 0])]
pushed = fate_map(
    toggle,
    low,
    "drive(u)=1",
    np.linspace(0.25, 5.0, steps),
    np.linspace(0.5, 8.0, steps),
    valleys,
    settle=60.0,
    noise=SSA(size=5.0),
    key=jax.random.key(0),
    runs=runs,
    noisy_settle=15.0,
)
print(pushed.describe())
axes = plot.fate_map_panel(pushed, dose_label="drive of u", dose_unit="amount/h", simulated=True)
plt.show()

# %% [markdown]
# ## 3. The landscape, and what a push does to it
# With noise a cell visits all states, some rarely: the height is `-ln p` of the stationary law, in units of its own.
# The push tilts it until one valley is gone. `docs/landscapes.md` says which potential to use when.

# %%
import functools

from pinnsim.landscape import chemical, fokker_planck, relief_of_grid
from pinnsim.simulate import FromState, simulate

box, cells = ([0.0, 0.0], [15.0, 15.0]), 20 if small else 72
law = functools.partial(chemical, size=1.0)
rest = relief_of_grid(fokker_planck(toggle, law, box, cells))
driven = relief_of_grid(fokker_planck(toggle, law, box, cells, "drive(u)=3"))
course = simulate(toggle, np.linspace(0.0, 20.0, 101), "drive(u)=3@4:12", initial=FromState(low)).raise_failures()
states, species, on = np.asarray(course.states[0]), toggle.table.species, 60
axes = plot.landscape_panels(
    {"at rest, and the way after the push": rest, "during the push": driven},
    courses={
        "at rest, and the way after the push": rest.place(states[on:], species),
        "during the push": rest.place(states[: on + 1], species),
    },
    highest=18.0,
    unit="amount",
    view=(56.0, -132.0),
    title="The toggle switch before and during a push",
    simulated=True,
)
plt.show()

# %% [markdown]
# ## 4. Three valleys, and how high the hills are
# GATA1 and PU.1 (made by the gene SPI1) activate themselves and repress each other: two lineages and a progenitor
# between them. The cheapest way over a hill is the path of least action; its height (`action`) is the exponent of the
# waiting time. There is no energy here, so the way up is not the way down reversed, and no straight line either. The
# rates are those of a textbook, one per unit of time: a "minute" below is that unit, not a measured one.

# %%
from pinnsim.dynamics.textbook import gata1_pu1
from pinnsim.landscape import additive, barrier_table, barriers, plane

blood = gata1_pu1()
seen = plane(blood, ("GATA1.mrna", "SPI1.mrna"), ([0.0, 0.0], [2.7, 2.7]), cells=25 if small else 121)
ways = barriers(blood, additive(0.02, 2), seen.points, points=17 if small else 129)
axes = plot.plane_portrait(seen, unit="amount", title="GATA1-PU.1: nullclines, flow and fixed points", simulated=True)
plt.show()
barrier_table(ways).iloc[:, :6].round(4)

# %% [markdown]
# ## 5. The least that moves it
# From one lineage to the other: which edits of named genes, how strong, for how long? Found exhaustively, refined
# through the simulator's gradient, verified by a full push, and set beside the minimum
# action, a bound that no plan can be below (`times the bound`). `SPI1*0.19@0:2.99` means: SPI1 is made at 0.19 of its
# rate from 0 to 2.99. `moved` is the share of 64 cells with other rates in which the same plan works, with its 95 %
# interval.

# %%
from pinnsim.reprogramming import reprogram

points = seen.points
stable = [name for name, ok in zip(points.names, points.stable, strict=True) if ok]
first, last = (min(stable, key=lambda n, k=k: points.states[points.names.index(n)][k]) for k in (0, 1))
plans = reprogram(blood, first, last, attractors=points, most=1 if small else 2, progress=False)
axes = plot.reprogramming_panels(plans)
plt.show()
best = plans.table().set_index("edits").head(6)
# Three digits are enough to read; the table itself has all, so that its text repeats the plan exactly.
best["treatment"] = best["treatment"].str.replace(r"\d+\.\d+", lambda found: f"{float(found[0]):.3g}", regex=True)
best[["treatment", "effort", "times the bound", "moved", "moved, low", "moved, high", "not moved"]].round(2)

# %% [markdown]
# **What to keep in mind.** A verdict is that of the model. With an ensemble of fits (`ensemble_map`, or `--members
# all` on the command line) the map also shows where the fits disagree. The same in a terminal:
# `pinnsim push toggle_switch --treatment "drive(u)=1" --doses 0.5:6:0.5 --durations 0.5:8:0.5 --settle 60 --start A1
# --out push.zarr --picture push.png`.
