"""The documentation site: `make docs` builds it into build/docs, from this folder, the notebooks and the shelf's cards.

Nothing is fetched: no inventories of other projects, no scripts from elsewhere, equations as MathML.
"""

import sys
import warnings
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent)]
warnings.filterwarnings("ignore", module="(myst_nb|jupyter_.*|nbformat).*")

from pinnsim import __version__  # noqa: E402

project = "pinnsim"
author = "The pinnsim developers"
copyright = author
version = release = __version__

# The source folder is the checkout, so that pages link to experiments and code by the paths they have there.
root_doc = "docs/index"
include_patterns = [
    "docs/**.md",
    "notebooks/*.ipynb",
    "models/*/README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
]
exclude_patterns = [".*", "build", "dist", "out", "pinnsim", "tests", "shared", "**/.*"]
extensions = ["myst_nb", "site_parts"]
html_math_renderer = "mathml"
nitpicky = True
highlight_language = "none"
suppress_warnings = ["misc.highlighting_failure"]
maximum_signature_line_length = 88
add_module_names = False
toc_object_entries_show_parents = "hide"

nb_execution_mode = "off"
nb_ipywidgets_js = {}
myst_enable_extensions = ["dollarmath", "colon_fence", "deflist"]
myst_heading_anchors = 3
myst_links_external_new_tab = False

html_theme = "sphinx_book_theme"
html_title = "pinnsim"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_additional_pages = {"index": "home.html"}
templates_path = ["_templates"]
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "navbar_persistent": [],
    "use_download_button": False,
    "use_fullscreen_button": False,
    "show_toc_level": 2,
    "home_page_in_toc": True,
}
