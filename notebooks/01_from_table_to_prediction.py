# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
# ---

# %% [markdown]
# # From a table to a prediction
#
# A tidy table of measurements goes in; a mechanistic model is fitted to **one** growth shift and predicts the
# **opposite** one from its first sample; the answer is printed beside trivial baselines, win or lose. Then the cell is
# pushed. The data are real, and all of this takes a few minutes.

# %%
import os

import numpy as np

import pinnsim

pinnsim.enable_x64()  # fits need double precision; the library never flips JAX settings by itself
steps = 10 if os.environ.get("PINNSIM_SMOKE") else 250

# %% [markdown]
# ## 1. A table
# One row per reading, columns named by you, nothing guessed. Here it is the embedded *Bacillus subtilis* data (tiling
# arrays, log2 intensity, minutes): bacteria that grow on glucose are given malate, others the reverse. They are written
# as a table first, because that is what yours will be.

# %%
import tempfile
from pathlib import Path

from pinnsim.data import carbon_shift, read_tidy

embedded, network = carbon_shift()
table = Path(tempfile.mkdtemp()) / "readings.csv"
embedded.to_frame().to_csv(table, index=False)

treatments = {
    "glc_mal": "signal(glucose)=1, signal(malate)=1@0:, signal(late)=1@85:",  # glucose since ever, malate from t = 0
    "mal_glc": "signal(malate)=1, signal(glucose)=1@0:, signal(late)=1@85:",
}
measured = read_tidy(table, time_unit="min", scale="log2", treatments=treatments, source=embedded.source)
data = measured.mean()  # one mean course per arm
print(data.describe())

# %% [markdown]
# ## 2. What is known: a signed network and half-lives
# Nothing is assumed silently: the prior says for every gene where its half-life comes from.

# %%
from pinnsim.prior import half_life_prior

prior = half_life_prior(None, data.genes, organism="B. subtilis", time_unit="min")
print(len(network.edges), "signed edges from", len(network.regulators), "regulators")
for source, genes in prior.report().groupby("source").size().items():
    print(f"{genes} genes: {source}")

# %% [markdown]
# ## 3. The model
# mRNA kinetics per gene, thermodynamic promoters, and a hidden activity of every regulator that is inferred at rest
# from a culture's first sample. The numbers come from the project file of the experiment `carbon_shift`; there two
# starts are fitted, here one and more briefly.

# %%
from pinnsim import shelf
from pinnsim.model import build
from pinnsim.project import load_project

project = load_project(shelf.experiment_path("carbon_shift").with_suffix(".toml"))
model_prior = build(project.config.model, network, prior)
plan = project.config.fit.model_copy(
    update={"starts": 1, "keep": 1, "collocation_steps": steps, "trajectory_steps": min(steps, 10)}
)

# %% [markdown]
# ## 4. Fit one arm, predict the other
# The model sees glucose → malate only. Of malate → glucose it gets the first sample.

# %%
from pinnsim.fit import cultures, fit, predict_cultures

fitted = fit(model_prior, data.select(conditions=["glc_mal"]), plan, progress=False)
target = cultures(data.select(conditions=["mal_glc"]), model_prior.center.table)
prediction = predict_cultures(fitted.models, target, plan)[:, 0]  # (member, time, gene)

# %%
from pinnsim.score import Entry, arms, baseline_entries, by_arm, compare, score_table, standard_baselines

split = by_arm(data)[0]
truth = arms(split.test)[0]
entries = [Entry.of("pinnsim", "model", split.name, compare(prediction.mean(axis=0), truth))]
entries += baseline_entries(split, standard_baselines("min", late=60.0, tau=20.0))
print(score_table(entries, unit="log2", data="carbon shift").to_text(width=110))

# %% [markdown]
# Read the last sentence first: **in this direction the model loses** to a baseline that lets every gene go where it
# ended in the fitted arm, as fast as it went there. With more effort it still loses here, and wins in the other
# direction (`experiments/results/carbon_shift.json`). The pictures show where: the *fru* genes answer briefly, and do
# not answer at all in the fitted arm; *maeA* answers after 60 min, and at once in the fitted arm.

# %%
from pinnsim.plot import fit_panels

panels = fit_panels(
    measured,
    "mal_glc",
    truth.times,
    prediction,
    label="predicted from the first sample",
    title="malate → glucose, never fitted",
)

# %% [markdown]
# ## 5. Push the cell
# The shelf (models that come with pinnsim) has the one fitted to both arms. A ten-minute malate pulse is given to a
# glucose culture and withdrawn; in a second run, without malate, its regulator CcpA is taken away. Closer to rest than
# 0.27 log2, the standard error of a mean of three bioreactors, a culture counts as back.

# %%
import jax.numpy as jnp

from pinnsim.plot import pulse_panel
from pinnsim.simulate import FromSample, simulate

model = shelf.load("carbon_shift").models[0]
times = np.linspace(0, 150, 76)
rest = FromSample(jnp.asarray(data.values[0, 0, 0]))
pushed = simulate(
    model, times, ["signal(glucose)=1, signal(malate)=1@0:10", "signal(glucose)=1, ccpA=0@0:"], initial=rest
)
change = np.asarray(pushed.readings - pushed.readings[:, :1])
moved = np.argsort(-np.abs(change[0]).max(axis=0))[:4]
panels = pulse_panel(
    times,
    np.sqrt((change[0] ** 2).mean(axis=-1)),
    {data.genes[g]: change[0, :, g] for g in moved},
    (0, 10),
    signal="malate",
    time_unit="min",
    threshold=0.27,
    simulated=True,
)

# %%
without_ccpa = np.asarray(change[1, -1])
print("change after 150 min without CcpA")
for gene in np.argsort(-np.abs(without_ccpa))[:6]:
    print(f"{data.genes[gene]:6s} {without_ccpa[gene]:+6.2f} log2")

# %% [markdown]
# `ccpA` itself is no longer made: what is left of it decays. `ackA` falls without CcpA, which activates it, and the
# `rbs` operon rises, which CcpA represses: the signs of the network, as they must be; the sizes are what the data
# taught. No experiment checked them here.
