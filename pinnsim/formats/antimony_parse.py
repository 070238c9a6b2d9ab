"""Antimony text to SBML text, by the antimony package.

Antimony's `import` reads other files; a text that has the word outside comments and quotes is refused, and the
package's folders of modules are not used.

Source: L. P. Smith et al., Bioinformatics 25:2452 (2009).
"""

import re

_QUIET = re.compile(r'//[^\n]*|#[^\n]*|/\*.*?\*/|"(?:[^"\\\n]|\\.)*"', re.DOTALL)


def antimony_to_sbml(text: str) -> tuple[str | None, list[tuple[str, str]]]:
    """The SBML of a text, or `None` and what is wrong, as (code, sentence)."""
    import antimony

    bare = _QUIET.sub(lambda match: "\n" * match[0].count("\n"), text)
    found = re.search(r"\bimport\b", bare)
    if found is not None:
        line = bare.count("\n", 0, found.start()) + 1
        return None, [("E_SBML_UNSUPPORTED", f"import at line {line}; paste the other file into this one")]
    antimony.clearPreviousLoads()
    antimony.freeAll()
    if antimony.loadAntimonyString(text) < 0:
        try:
            said = antimony.getLastError()
        except UnicodeDecodeError:  # it cuts a letter of several bytes
            said = "the text around a letter outside ASCII is not read"
        return None, [("E_SBML_INVALID", " ".join((said or "not read").split())[:300])]
    # The last module of a text is the one that Antimony itself takes for its main one.
    return antimony.getSBMLString(antimony.getMainModuleName()), []
