"""How objects show themselves, as text and HTML; and what the front door promises."""

import doctest
import html.parser

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import pinnsim
from pinnsim import shown
from pinnsim.data import Dataset, Snapshots
from pinnsim.landscape.attractors import Attractors
from pinnsim.landscape.potential import Potential
from pinnsim.landscape.relief import Relief
from pinnsim.model import ModelConfig, build
from pinnsim.network import Network
from pinnsim.prior import half_life_prior
from pinnsim.simulate import Ensemble, Moments, Simulation

NETWORK = Network.from_frame(
    pd.DataFrame({"tf": ["a<b>", "c"], "target": ["c", "a<b>"], "sign": [-1, 1]}), genes=("a<b>", "c")
)


def objects() -> dict[str, tuple[object, tuple[str, ...]]]:
    """Objects, and what must be read of each."""
    values = np.arange(12.0).reshape(6, 2)
    course = Dataset.build(values, np.arange(6.0), ("x", "y"), time_unit="h", scale="linear", simulated=True)
    cells = Snapshots.build(
        np.ones((24, 2)) + np.arange(48).reshape(24, 2),
        np.repeat([0.0, 6.0], 12),
        ("x", "y"),
        time_unit="h",
        scale="counts",
    )
    prior = half_life_prior(None, NETWORK.genes, "human", "h")
    model = build(ModelConfig(time_unit="h"), NETWORK, prior).center
    run = Simulation(
        times=jnp.asarray([0.0, 2.0]),
        states=jnp.ones((2, 2, 1)),
        outcome=jnp.asarray([0, 1]),
        reached=jnp.asarray([2.0, 1.0]),
        readings=None,
        lanes=("none", "GATA1=0"),
        species=("x.mrna",),
        genes=("x",),
        time_unit="h",
        stiffness=(1.0, 1.0),
    )
    valleys = Attractors(
        states=np.array([[1.0, 0.5]]),
        names=("A1",),
        stability=("stable",),
        index=np.array([0]),
        eigenvalues=np.array([[-1.0 + 0j, -2.0 + 0j]]),
        residual=np.array([0.0]),
        starts=np.array([8]),
        motion=("settled",) * 8,
        arrives=np.zeros(8, int),
        ends=np.ones((8, 2)),
        settle=1.0,
        species=("x", "y"),
        time_unit="h",
    )
    relief = Relief(
        np.array([0.0, 1.0, 2.0]),
        np.array([5.0, 6.0]),
        Potential("energy", np.arange(6.0)[::-1].reshape(3, 2), ""),
        ("a", "b"),
    )
    clouds = Ensemble(
        times=run.times,
        states=jnp.ones((2, 5, 2, 1)),
        outcome=jnp.asarray([[0] * 5, [0, 0, 1, 0, 0]]),
        reached=jnp.ones((2, 5)),
        size=jnp.asarray(1.0),
        lanes=run.lanes,
        species=run.species,
        time_unit="h",
    )
    noise = Moments(
        times=run.times,
        mean=jnp.ones((2, 2, 1)),
        covariance=jnp.ones((2, 2, 1, 1)),
        outcome=run.outcome,
        reached=run.reached,
        size=jnp.asarray(1.0),
        lanes=run.lanes,
        species=run.species,
        time_unit="h",
        stiffness=(1.0, 1.0),
    )
    return {
        "relief": (relief, ("U, with", "a", "0 to 2, 3 centres", "lowest at", "a 2, b 6")),
        "ensemble": (clouds, ("Ensemble", "cells per lane", "5", "9 of 10", "1 (GATA1=0)", "0 to 2 h")),
        "moments": (noise, ("Moments", "mean and covariance", "1 of 2", "1 (GATA1=0)")),
        "network": (NETWORK, ("2 (a<b>, c)", "1 activating, 1 repressing")),
        "dataset": (course, ("simulated trajectory", "2 genes", "6 times from 0 to 5")),
        "snapshots": (cells, ("24 of 2 genes", "0 (12), 6 (12) h")),
        "model": (model, ("CellModel", "mrna", "2 edges", "rates per", "Gaussian")),
        "simulation": (run, ("2 (none, GATA1=0)", "0 to 2 h", "1 of 2", "1 (GATA1=0)")),
        "landscape": (valleys, ("1 attractor from 8 starts", "A1", "100%", "x 1, y 0.5")),
    }


class Reader(html.parser.HTMLParser):
    """The text of a page, and whether its tags close."""

    def __init__(self) -> None:
        super().__init__()
        self.text, self.open = "", []  # type: ignore[var-annotated]

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data + " "


@pytest.mark.filterwarnings("ignore::pinnsim.errors.PinnsimWarning")
def test_text_and_html_say_the_same() -> None:
    for name, (thing, wanted) in objects().items():
        text, reader = repr(thing), Reader()
        reader.feed(thing._repr_html_())  # type: ignore[attr-defined]
        assert reader.open == [], name
        for words in wanted:
            assert words in " ".join(text.split()), (name, text)
            assert words in " ".join(reader.text.split()), (name, reader.text)
        assert len(text.splitlines()) < 15
        assert max(map(len, text.splitlines())) < 160


def test_examples_of_the_page() -> None:
    assert doctest.testmod(shown).failed == 0


def test_every_name_of_the_front_door_is_there() -> None:
    assert 28 <= len(pinnsim.__all__) <= 40
    for name in pinnsim.__all__:
        assert getattr(pinnsim, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'tool'"):
        _ = pinnsim.tool
