"""Names of quantities that follow from a model's own: its readers write formulas with them, `rules` gives them values.

None can be a name of a file, because they hold a space or a dot, which identifiers of SBML cannot.
"""

TIME = "the time"


def activity_of(species: str) -> str:
    """The name of a species' activity."""
    return f"{species} activity"


def active(species: str) -> str:
    """The name of what a species counts for in the rate laws of reactions that do not change it."""
    return f"{species} active"


def start_of(name: str) -> str:
    """The name of the number that a state starts from, where no initial assignment says it."""
    return f"{name}.start"


def slope_of(name: str) -> str:
    """The name of a quantity's derivative in time."""
    return f"{name} slope"


def amount_of(species: str) -> str:
    """The name of a species' amount, where the species' own name means its concentration."""
    return f"{species} amount"


def concentration_of(species: str) -> str:
    """The name of a species' concentration, whatever the species' own name means."""
    return f"{species} concentration"


def rate_factor(column: str) -> str:
    """The name of what multiplies the rate of a column."""
    return f"{column} factor"


def local_of(reaction: str, name: str) -> str:
    """The name of a reaction's own constant."""
    return f"{reaction}.{name}"
