"""Many lanes through one solver: blocks of lanes side by side, spread over the local devices.

A block is what runs in lockstep, lanes last (`pinnsim.lanes`): wide enough to fill vector units, small enough that
its arrays stay in the processor's cache and that few lanes wait for a slow one. Blocks run one after another on each
device; with several devices each takes its share (`pinnsim.session.use_cores()`, called before anything runs, makes a
device of every processor core). On an accelerator one block holds all lanes. What a lane gives depends on nothing but
its own numbers: block size, order of lanes and number of devices do not matter (beyond rounding in the last digit,
where the compiler orders sums differently).
"""

from collections.abc import Callable
from typing import TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

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
    count = jax.tree.leaves(arrays)[0].shape[0]
    mesh = _mesh(devices)
    each = -(-count // mesh.size)
    usual = BLOCK if mesh.devices.flat[0].platform == "cpu" else each
    width = max(1, min(usual if block is None else block, each))
    blocks = -(-each // width)
    total = mesh.size * blocks * width
    # The last lane fills up the last block: it ends when it ends anyway.
    padded = jax.tree.map(lambda a: a[jnp.minimum(jnp.arange(total), count - 1)] if total > count else a, arrays)
    shaped = jax.tree.map(lambda a: jnp.moveaxis(a.reshape(mesh.size * blocks, width, *a.shape[1:]), 1, -1), padded)

    def one_device(shared: Shared, lanes: Lanes) -> Out:
        return jax.lax.map(lambda one: lanes_last(fn)(shared, eqx.combine(one, rest)), lanes)

    common, static = eqx.partition(shared, eqx.is_array)

    def run(common: Shared, lanes: Lanes) -> Out:
        return one_device(eqx.combine(common, static), lanes)

    if mesh.size > 1:
        spread = PartitionSpec(_AXIS)
        run = jax.shard_map(run, mesh=mesh, in_specs=(PartitionSpec(), spread), out_specs=spread, check_vma=False)
    found = run(common, shaped)
    return jax.tree.map(lambda a: jnp.moveaxis(a, -1, 1).reshape(total, *a.shape[1:-1])[:count], found)


def _mesh(devices: int | None) -> Mesh:
    local = jax.local_devices()
    return Mesh(np.array(local[: len(local) if devices is None else devices]), (_AXIS,))
