"""PEtab problems: `problem` reads one as a compiled objective, `fit` fits it, `write` stores it."""
