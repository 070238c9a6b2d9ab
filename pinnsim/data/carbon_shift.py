"""Bacillus subtilis switching its carbon source, minute by minute: the embedded real data set.

121 genes x 60 tiling arrays (log2 intensity), two arms: cells growing on glucose receive malate (`glc_mal`), cells
growing on malate receive glucose (`mal_glc`); three bioreactors each, sampled at 0 (the last moment at rest), 5, 10,
15, 25, 45, 60, 90, 120 and 150 min, some missing. The network holds 210 signed edges from 35 transcription and sigma
factors (SubtiWiki). Sources: Nicolas et al. 2012, Science 335:1103; Buescher et al. 2012, Science 335:1099; both by
way of pymodulon 0.2.1 (licence in `embedded/bsubtilis_carbon_shift/NOTICE.md`).

The column `rep_id` of the sample table numbers the samples of one time point from 1, so that it is renumbered
wherever a bioreactor is missing and is NOT the bioreactor: following `rep_id = 1` through time would join different
cultures. The bioreactor is the suffix of the sample's name (`GM+10_2` is bioreactor 2), and that is the replicate
here. Two samples of one bioreactor at t = 0 are averaged (`Dataset.samples` says 2).
"""

from __future__ import annotations

from importlib.resources import as_file, files

from pinnsim.data.dataset import Dataset
from pinnsim.data.tables import read_wide
from pinnsim.network import Network
from pinnsim.texttable import read_table

NAME = "bsubtilis_carbon_shift"
CITATION = "Nicolas et al. 2012, Science 335:1103; Buescher et al. 2012, Science 335:1099 (by way of pymodulon 0.2.1)"
CAVEATS = (
    "log2 array intensity is relative and saturates at both ends; it is not a molecule count",
    "replicate 1 of mal_glc deviates from the others at early times by 0.7-1.4 log2 rms",
    "the genes were chosen for large, reproducible change over all times of both arms (selection bias)",
    "the standard error of a mean of 3 replicates is about 0.27 log2; one replicate is 0.56 from the others' mean",
)
TREATMENTS = {
    "glc_mal": "signal(glucose)=1, signal(malate)=1@0:",
    "mal_glc": "signal(malate)=1, signal(glucose)=1@0:",
}
"""Before t = 0 only the first sugar is there, afterwards both."""


def carbon_shift() -> tuple[Dataset, Network]:
    """The two arms (time in min, log2 intensity, three bioreactors as replicates) and the signed network among the
    121 genes."""
    with as_file(files("pinnsim.data") / "embedded" / NAME) as folder:
        samples = read_table(folder / "samples.csv")
        samples["bioreactor"] = [name.rpartition("_")[2] for name in samples["sample"]]
        data = read_wide(
            folder / "expression_log2.csv",
            samples,
            time="time_min",
            condition="experiment",
            replicate="bioreactor",
            samples="average",
            treatments=TREATMENTS,
            time_unit="min",
            scale="log2",
            source=CITATION,
        )
        network = Network.read(folder / "network.csv").restrict(data.genes)
    return data, network
