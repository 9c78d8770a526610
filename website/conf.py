"""The site's settings for Sphinx. `make site` gathers the pages (gather.py) and builds it.

No page asks another host for anything: Furo brings its own style and script, the fonts are the reader's, and Sphinx's
search reads an index that lies beside the pages.
"""

project = "shadowproxy"
extensions = ["myst_parser"]
myst_enable_extensions: list[str] = []
myst_heading_anchors = 6  # as GitHub makes them, so that links with a fragment work in both
# Lines of JSON and of a shell that are shortened with … are no faults.
suppress_warnings = ["misc.highlighting_failure"]

html_theme = "furo"
html_title = "shadowproxy"
html_favicon = "_static/favicon.svg"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
html_show_copyright = False
html_theme_options = {"navigation_with_keys": False}
