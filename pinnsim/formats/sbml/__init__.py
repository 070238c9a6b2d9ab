"""SBML in and out: `read` and `write` are for users; `child` parses in a process of its own, without JAX."""
