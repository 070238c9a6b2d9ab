# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
# ---

# %% [markdown]
# # Batch runs and sweeps: one machine, a cluster, a GPU
#
# One cell is a line of code; a hundred are the same line; a million are a *campaign*, a folder that survives anything.
# **The numbers are the same bits however the work is cut and wherever it runs.** This page shows that by cutting it
# in six ways. The model is the toggle switch (simulated): two genes that repress each other.

# %%
import os

os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=2"  # see 4.

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import pinnsim
from pinnsim import plot, shelf
from pinnsim.simulate import FromState, simulate

pinnsim.enable_x64()  # the library never flips JAX settings by itself
small = bool(os.environ.get("PINNSIM_SMOKE"))
folder = Path(tempfile.mkdtemp())

# %% [markdown]
# ## 1. A batch is a list
# Give `simulate` many treatments and they run as one compiled program. A lane that fails says why and harms no other;
# a number that you change does not compile anything anew.

# %%
toggle = shelf.load("toggle_switch").model
low = FromState([0.10102, 9.89898])  # resting where u is low and v is high
doses = np.linspace(0.25, 3.0, 12)
times = np.linspace(0.0, 40.0, 81)
batch = simulate(toggle, times, [f"drive(u)={dose:g}@5:10" for dose in doses], initial=low).raise_failures()
courses = {f"{doses[k]:g} amount/h": np.asarray(batch.states[k]) for k in (1, 3, 5, 7, 9, 11)}
axes = plot.course_panels(
    times,
    courses,
    genes=toggle.table.species,
    time_unit="h",
    unit="amount",
    title="u is made besides, from 5 to 10 h, at six doses",
)
plt.show()

# %% [markdown]
# Weak pushes are forgotten when they end at 10 h; strong ones flip the switch for good.
#
# ## 2. A campaign is a specification and a folder
# Which doses, given for how long, flip the switch? What varies makes a grid; what is kept of every point is named.
# `A1` is the valley where v is high, `A2` the one where u is. The same can be a TOML file
# (`pinnsim sweep init sweep.toml`).

# %%
from pinnsim.campaign import resume, run
from pinnsim.sweep import Axis, Specification, Store

side = 8 if small else 64
campaign = Specification(
    model="toggle_switch",
    times=(0.0, 70.0),
    initial={"u.mrna": 0.10102, "v.mrna": 9.89898},
    push="drive(u)=1",
    axes=(Axis(name="dose", linear=(0.25, 6.0, side)), Axis(name="duration", linear=(0.25, 8.0, side))),
    record=("end", "fate"),
    block=16 if small else 256,
    chunk=16 if small else 512,
)
report = run(campaign, folder / "whole")
print(", ".join(f"{number} {what}" for what, number in report.counts.items()))
store = Store(folder / "whole")
axes = plot.sweep_map(store.to_xarray())
axes[0].set_xlabel("dose: drive of u (amount/h)")
plt.show()

# %% [markdown]
# The folder is Zarr with named dimensions and units: anything that reads Zarr reads it, also while it is being written.

# %%
print(store.to_xarray()["end"].isel(point=slice(0, 2)).to_series().to_string())

# %% [markdown]
# ## 3. Killed, and gone on
# The same campaign in a process of its own, as a terminal would start it; after its first chunks are on disk it is
# killed (not asked to stop: killed). `resume` works out what is missing, and nothing else.

# %%
import subprocess
import sys
import time

import tomli_w

file = folder / "sweep.toml"
file.write_text(tomli_w.dumps(campaign.model_dump(mode="json", exclude_unset=True)))
command = [sys.executable, "-m", "pinnsim", "sweep", "run", str(file), "--out", str(folder / "killed"), "--chunk", "16"]
victim = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
while victim.poll() is None and not list((folder / "killed").glob("**/end/1.*")):
    time.sleep(0.02)
victim.kill()
victim.wait()
before = Store(folder / "killed").counts()
after = resume(folder / "killed").counts
print(f"killed with {before['done']} of {side**2} points on disk; after resume {after['done']}")

# %% [markdown]
# ## 4. Cut in other ways
# - **processes** on this machine: `engine="processes", workers=2`;
# - **Dask**: `engine="dask"` makes a cluster on this machine, `address="HOST:PORT"` takes yours;
# - **devices** of one process: `devices=2` spreads the points of every block. Here they are two halves of a processor
#   (the flag in the first cell); with two GPUs they are the GPUs;
# - **shards**: each of n jobs does its own part, and `merge` joins the folders.
#
# `content_hash` is one number of all results, to the last bit.

# %%
from pinnsim.sweep import merge

run(campaign, folder / "processes", engine="processes", workers=2)
run(campaign, folder / "dask", engine="dask", workers=2)
run(campaign, folder / "devices", devices=2)
for which in (1, 2, 3):
    run(campaign, folder / f"shard{which}", shard=(which, 3))
merge([folder / f"shard{which}" for which in (1, 2, 3)], folder / "merged")

ways = {
    "in this process": "whole",
    "killed and resumed, other chunks": "killed",
    "two processes": "processes",
    "Dask, two workers": "dask",
    "two devices": "devices",
    "three shards, merged": "merged",
}
hashes = {way: Store(folder / name).content_hash() for way, name in ways.items()}
assert len({hashes[way] for way in ways if way != "two devices"}) == 1  # half a block is another program
pd.DataFrame(
    {
        "hash of all numbers": [h[:16] for h in hashes.values()],
        "points": [Store(folder / n).counts()["done"] for n in ways.values()],
    },
    index=list(ways),
)

# %% [markdown]
# One hash: the same bits in every way. This holds on machines of one kind; another processor, or a GPU, may round the
# last digit otherwise, and so may half a block per device under other settings of the compiler.
# `experiments/results/campaign_kills.json` has 200 random kills, `toggle_sweep.json` 35 cuts.
#
# ## 5. On a cluster
# A job array needs no cluster software at all: every job does its shard, and one command joins them.
#
# ```bash
# #SBATCH --array=1-10
# pinnsim sweep run sweep.toml --shard ${SLURM_ARRAY_TASK_ID}/10 --out part${SLURM_ARRAY_TASK_ID}
# # when all are done (or again, with resume, for those that were killed):
# pinnsim sweep merge part* --out whole
# ```
#
# Or Dask asks the queue for workers, and takes new ones for those that die:
#
# ```bash
# pinnsim sweep run sweep.toml --engine dask --jobqueue slurm --workers 32 --job "walltime=02:00:00, memory=8GB"
# ```
#
# ## 6. On a GPU
# Install `"pinnsim[cuda13]"`; nothing in the code changes. `simulate` and campaigns run on whatever JAX finds
# (`pinnsim doctor` says what that is); `--devices 2` spreads points over two GPUs, `--engine processes` gives each
# process its own. **We have not measured the speed of this page's work on a GPU**, so nothing is promised; measure
# yours with `python experiments/bench_gpu.py` before you move there. Small models are often as fast on a processor.

# %%
import jax

print("this page was run on:", jax.devices()[0].platform)
