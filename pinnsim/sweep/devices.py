"""One process per accelerator: what a worker's environment says before it starts, so that it sees its own device alone.

Worker k of a machine with n accelerators gets the (k mod n)-th of those that this process may see; a worker that takes
the place of a dead one gets the same. Where more workers than accelerators share them, and because the process that
holds the store has looked at the devices too, nobody takes all of a device's memory beforehand.

Source: https://docs.jax.dev/en/latest/gpu_memory_allocation.html
"""

import os
from collections.abc import Mapping

from pinnsim.errors import PinnsimError

VISIBLE = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES")
SHARED = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}


def accelerators() -> int:
    """How many accelerators this process sees; 0 where it works on processors."""
    import jax

    return len(jax.local_devices()) if jax.default_backend() == "gpu" else 0


def environments(workers: int, count: int, given: Mapping[str, str] | None = None) -> list[dict[str, str]]:
    """What each worker's environment has of its own, (worker,).

    **Arguments:** `count`: accelerators that this process sees; `given`: its environment (default: the real one), whose
    own restrictions are kept.

    >>> [one["CUDA_VISIBLE_DEVICES"] for one in environments(3, 2, {"CUDA_VISIBLE_DEVICES": "4,6"})]
    ['4', '6', '4']
    """
    given = os.environ if given is None else given
    if not count:
        return [{} for _ in range(workers)]
    found = []
    for worker in range(workers):
        own = dict(SHARED)
        for name in VISIBLE:
            names = [part.strip() for part in given.get(name, "").split(",") if part.strip()]
            names = names or [str(k) for k in range(count)]
            own[name] = names[worker % min(count, len(names))]
        found.append(own)
    return found


def check_devices(devices: int) -> None:
    """Raises `E_USAGE` where this process has fewer devices than its points are to be spread over."""
    import jax

    there = len(jax.local_devices())
    if not 1 <= devices <= there:
        raise PinnsimError.of(
            "E_USAGE",
            f"Points are to be spread over {devices} devices, but this process has {there}; of a processor's cores, "
            "XLA_FLAGS=--xla_force_host_platform_device_count=N makes N devices.",
        )
