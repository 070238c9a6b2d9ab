# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
# ---

# %% [markdown]
# # Your own kinetics, and a rate that is learned
#
# You have a kinetic model: a file from a database, or a few lines of your own. It is simulated as it is. Then one of
# its rates is given a neural correction, and the data decide: **is the law enough, and if not, what does the rate look
# like?** Everything here is simulated, so that the true law is known.

# %%
import os

import jax
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import pinnsim
from pinnsim import plot
from pinnsim.simulate import simulate

pinnsim.enable_x64()  # fits need double precision; the library never flips JAX settings by itself
small = bool(os.environ.get("PINNSIM_SMOKE"))

# %% [markdown]
# ## 1. A model from a file, and one from text
# A culture is fed with a sugar S; an enzyme turns S into a product P, which is lost. The SBML file is *the truth* of
# this page: too much S blocks the enzyme (substrate inhibition). The Antimony text is *what we believe*: the textbook
# law of Michaelis and Menten, which saturates and never falls. In a terminal, `pinnsim import FILE` says what was
# understood of a file.

# %%
truth = pinnsim.read_sbml("substrate_inhibition.xml")
model = pinnsim.read_antimony("""
    feed:   -> S; inflow
    uptake: S -> P; Vmax * S / (Km + S)
    loss:   P -> ; k * P
    S = 0.5; P = 0; inflow = 0.6; Vmax = 3; Km = 1; k = 0.4
""")
print(model.table.species, model.table.reactions)
print({name: float(value) for name, value in model.constants.items()})

# %% [markdown]
# ## 2. Data
# Three cultures: one on the usual feed, two that get more S for some hours. S and P are measured every hour with an
# error of 0.05 mmol/l. A fourth culture is kept away from every fit: it is what the models have to predict.

# %%
treatments = {"usual feed": "none", "much for 3 h": "drive(S)=2@3:6", "some for 6 h": "drive(S)=1@3:9"}
held_out = "drive(S)=1.5@2:8"
times, sd = np.linspace(0.0, 24.0, 25), 0.05
every = [*treatments.values(), held_out]
runs = simulate(truth, times, every).raise_failures()
noise = np.random.default_rng(0).normal(0.0, sd, runs.states.shape)
readings = np.maximum(np.asarray(runs.states) + noise, 0.0)
data = pinnsim.Dataset.build(
    readings[:3, None],
    times,
    model.table.species,
    tuple(treatments),
    treatments=treatments,
    time_unit="h",
    scale="linear",
    simulated=True,
)
print(data.describe())

# %% [markdown]
# ## 3. Two fits
# `fit_kinetics` moves the constants that you name, each with a prior: 0.7 lets it be off by a factor of two.
# `learned_rate` multiplies ONE rate by a factor that a small neural network makes from the amounts it may see, here S.
# The factor is 1 before anything is learned, and always between 1/7 and 7; mass is conserved whatever it learns,
# because only the speed of `uptake` changes, not what it makes.
#
# A third fit is a control: the same learned rate, given data of which the textbook law *is* the truth.

# %%
from pinnsim.dynamics.learned_rate import learned_rate
from pinnsim.fit import fit_kinetics

free = {"Vmax": 0.7, "Km": 0.7, "k": 0.5}
steps = 8 if small else 200
corrected = learned_rate(model, "uptake", ["S"], key=jax.random.key(0), width=4)
plain = fit_kinetics(model, data, free, sd=sd, most=steps, progress=False)
learned = fit_kinetics(corrected, data, free, sd=sd, most=steps, progress=False)

lawful = np.asarray(simulate(model, times, every).states)
control = pinnsim.Dataset.build(
    np.maximum(lawful + noise, 0.0)[:3, None],
    times,
    model.table.species,
    tuple(treatments),
    treatments=treatments,
    time_unit="h",
    scale="linear",
    simulated=True,
)
plain_control = fit_kinetics(model, control, free, sd=sd, most=steps, progress=False)
learned_control = fit_kinetics(corrected, control, free, sd=sd, most=steps, progress=False)

# %% [markdown]
# ## 4. What the gate says
# *Misfit* is the typical distance from data to model in measurement errors: 1 is what a right model has. The *gate*
# says how far the correction is opened (it begins at 0.1); *factor* is by how much the rate was changed at the measured
# times (root mean square). *Evidence* is the judge: it rises with a better fit and falls with every number that was
# needed for it. A learned rate earns its place where it raises the evidence by more than a few nats. *Converged* says
# whether the search ended by itself: where it did not, the other numbers are those of a fit that could still improve.

# %%
fits = {
    "law lacks inhibition: law alone": plain,
    "law lacks inhibition: with learned rate": learned,
    "law is right (control): law alone": plain_control,
    "law is right (control): with learned rate": learned_control,
}
pd.DataFrame(
    {
        "misfit (errors)": [f"{f.misfit:.2f}" for f in fits.values()],
        "gate": [f"{f.gate:.2f}" if np.isfinite(f.gate) else "none" for f in fits.values()],
        "factor (rms)": [f"{np.exp(f.learned):.2f}" for f in fits.values()],
        "evidence (nats)": [f"{f.evidence:.1f}" for f in fits.values()],
        "converged": [f"{'yes' if f.converged else 'no'}, {f.steps} steps" for f in fits.values()],
    },
    index=list(fits),
)

# %% [markdown]
# All four fits converged. Where the law lacks something, the gate opens, the misfit falls to the measurement error, and
# the evidence rises by hundreds of nats. Where the law is right, the gate stays where it was, the factor stays next to
# 1, and the evidence does not rise: the correction is not needed, and the table says so.

# %% [markdown]
# ## 5. What was learned
# The rate of `uptake` against S. The fit saw neither the true law nor its name, but its correction bends the textbook
# law down where S is high. Beyond the amounts that the data held (grey), nothing is known, and the band says so.

# %%
axes = plot.rate_law(
    {"true law": truth, "fitted textbook law": plain.kinetics, "with learned rate": learned},
    "uptake",
    "S",
    np.linspace(0.0, 6.0, 61),
    seen=(float(readings[:3, :, 0].min()), float(readings[:3, :, 0].max())),
    unit="mmol/l",
    time_unit="h",
    title="Uptake: the believed law, and what was learned",
    simulated=True,
)
plt.show()

# %% [markdown]
# ## 6. A culture that no fit has seen
# The test of a model is a treatment that it was not fitted to, beside trivial answers.

# %%
truth_there = np.asarray(runs.states[3])
predicted = {
    "with learned rate": simulate(learned.kinetics, times, every).states[3],
    "fitted textbook law": simulate(plain.kinetics, times, every).states[3],
    "mean of the fitted cultures": readings[:3].mean(axis=0),
    "first sample for ever": np.broadcast_to(readings[3, 0], truth_there.shape),
}
seen = pinnsim.Dataset.build(
    readings[3], times, model.table.species, ("held out",), time_unit="h", scale="linear", simulated=True
)
axes = plot.fit_panels(
    seen,
    "held out",
    times,
    np.asarray(predicted["with learned rate"]),
    genes=model.table.species,
    baselines={name: np.asarray(course) for name, course in predicted.items() if name != "with learned rate"},
    label="predicted, with learned rate",
    title="A treatment that no fit has seen",
    quantity="concentration",
    unit="mmol/l",
)
plt.show()
errors = {name: np.sqrt(((np.asarray(course) - truth_there) ** 2).mean()) for name, course in predicted.items()}
pd.Series(errors, name="error (mmol/l, root mean square)").sort_values().round(3).to_frame()

# %% [markdown]
# **When not to trust this.** A learned rate fits what the data show, also what is wrong with them. It says nothing of
# amounts that were not measured, and constants of a law that is corrected mean less: compare the intervals of `Vmax`
# below (*narrowed* is the width of an interval over that of its prior). Read the gate and the evidence before the
# curve; if the curve looks like a known law, write that law down and fit it: it will need fewer numbers. What SBML
# may contain is in `docs/sbml.md`.

# %%
pd.concat({"law alone": plain.table, "with learned rate": learned.table}).droplevel(1).round(3)
