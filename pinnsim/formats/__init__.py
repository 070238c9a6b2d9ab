"""What is written and read: configurations (`toml`), model bundles (`bundle`) and simulations (`simulation`); what
other tools take (`pypesto`); kinetic models of others (`sbml`, `antimony`) and
calibration problems of theirs (`petab`)."""
