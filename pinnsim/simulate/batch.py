"""Many lanes through one solver: blocks of lanes side by side, spread over the local devices.

A block is what runs in lockstep, lanes last (`pinnsim.lanes`): wide enough to fill vector units, small enough that
its arrays stay in the processor's cache and that few lanes wait for a slow one. Blocks run one after another on each
device; with several devices each takes its share (`pinnsim.session.use_cores()`, called before anything runs, makes a
device of every processor core). On an accelerator one block holds all lanes. What a lane gives depends on nothing but
its own numbers: block size, order of lanes and number of devices do not matter (beyond rounding in the last digit,
where the compiler orders sums differently).
"""

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array

from pinnsim.lanes import lanes_last

Shared = TypeVar("Shared")
Lanes = TypeVar("Lanes")
Out = TypeVar("Out")

BLOCK = 32
_AXIS = "lanes"


def run_lanes(
    fn: Callable[[Shared, Lanes], Out],
    shared: Shared,
    lanes: Lanes,
    *,
    block: int | None = None,
    devices: int | None = None,
) -> Out:
    """`fn(shared, lane)` for every lane.

    **Arguments:** `fn`: pure, for one lane; `shared`: arrays that all lanes see; `lanes`: arrays with a leading lane
    axis; `block`: lanes in lockstep, `None` for 32 on a processor and all on an accelerator; `devices`: how many of
    the local devices, `None` for all of them. Use it under `jit`.

    **Returns** what `fn` returns, with a leading lane axis.
    """
    arrays, rest = eqx.partition(lanes, eqx.is_array)
    blocks = Blocks.of(jax.tree.leaves(arrays)[0].shape[0], block, devices)

    def one_block(shared: Shared, lanes: Lanes) -> Out:
        return lanes_last(fn)(shared, eqx.combine(lanes, rest))

    return blocks.joined(blocks.run(one_block, shared, blocks.cut(arrays)))


class Blocks(NamedTuple):
    """How lanes are cut into blocks: `total` blocks of `width` lanes, the last lane filling up the last block, spread
    over the devices of `mesh`."""

    lanes: int
    width: int
    total: int
    mesh: Mesh

    @staticmethod
    def of(count: int, block: int | None = None, devices: int | None = None) -> "Blocks":
        """Blocks for `count` lanes; `block` and `devices` as for `run_lanes`."""
        mesh = _mesh(devices)
        each = -(-count // mesh.size)
        usual = BLOCK if mesh.devices.flat[0].platform == "cpu" else each
        width = max(1, min(usual if block is None else block, each))
        return Blocks(count, width, mesh.size * -(-each // width), mesh)

    def cut(self, lanes: Lanes) -> Lanes:
        """Arrays (lane, ...) as (block, ..., lane in block)."""
        filled = self.total * self.width

        def one(array: Array) -> Array:
            # The last lane fills up the last block: it ends when it ends anyway.
            whole = array[jnp.minimum(jnp.arange(filled), self.lanes - 1)] if filled > self.lanes else array
            return jnp.moveaxis(whole.reshape(self.total, self.width, *array.shape[1:]), 1, -1)

        return jax.tree.map(one, lanes)

    def joined(self, blocked: Out) -> Out:
        """The inverse of `cut`."""
        filled = self.total * self.width
        return jax.tree.map(lambda a: jnp.moveaxis(a, -1, 1).reshape(filled, *a.shape[1:-1])[: self.lanes], blocked)

    def run(self, fn: Callable[[Shared, Lanes], Out], shared: Shared, blocked: Lanes) -> Out:
        """`fn(shared, block)` for every block, whose arrays have the lanes last; results with a leading block axis."""
        common, static = eqx.partition(shared, eqx.is_array)

        def run(common: Shared, blocked: Lanes) -> Out:
            return jax.lax.map(lambda one: fn(eqx.combine(common, static), one), blocked)

        if self.mesh.size > 1:
            spread = PartitionSpec(_AXIS)
            run = jax.shard_map(
                run, mesh=self.mesh, in_specs=(PartitionSpec(), spread), out_specs=spread, check_vma=False
            )
        return run(common, blocked)


def _mesh(devices: int | None) -> Mesh:
    local = jax.local_devices()
    return Mesh(np.array(local[: len(local) if devices is None else devices]), (_AXIS,))
