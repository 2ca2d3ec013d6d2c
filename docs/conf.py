"""The documentation site: ``sphinx-build -W -n docs docs/_build``.

The pages are Markdown that GitHub shows as well: links are relative, and those that lead out of
``docs`` become links to the repository here. The site asks no other host for anything.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from pygments.lexers.special import TextLexer
from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
REPOSITORY = PROJECT["urls"]["Source"]

project = "asgiws"
author = "the asgiws authors"
release = version = PROJECT["version"]

extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence", "deflist"]
# Outside of Python's own documentation nothing is looked up, so that the build needs no network.
nitpicky = True
nitpick_ignore_regex = [
    (r"py:.*", r"(?!asgiws).*"),
    (r"py:.*", r"asgiws\.asgi\..*"),
    (r"py:.*", r"asgiws\..*\._\w+"),  # type variables
]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_type_aliases = {"Application": "Application", "ASGIApp": "ASGIApp"}
autodoc_preserve_defaults = True

html_theme = "furo"
html_title = "asgiws"
html_static_path = ["_static"]
html_css_files = ["asgiws.css"]
html_copy_source = False
html_show_sphinx = False
html_theme_options = {
    "source_repository": REPOSITORY,
    "source_branch": "main",
    "source_directory": "docs/",
}
pygments_style = "default"
pygments_dark_style = "github-dark"

LINK = re.compile(r"\]\((\.\./[^)#\s]*)(#[^)\s]*)?\)")


def link_to_the_repository(app: Sphinx, docname: str, source: list[str]) -> None:
    """What a page links to outside of ``docs`` is shown by the repository."""
    docs = Path(app.srcdir)
    folder = (docs / docname).parent

    def there(match: re.Match[str]) -> str:
        aim = (folder / match[1]).resolve()
        if aim.is_relative_to(docs):
            return match[0]
        kind = "tree" if aim.is_dir() else "blob"
        path = aim.relative_to(ROOT).as_posix()
        return f"]({REPOSITORY}/{kind}/main/{path}{match[2] or ''})"

    source[0] = LINK.sub(there, source[0])


def setup(app: Sphinx) -> None:
    for language in ("haproxy", "caddyfile"):
        app.add_lexer(language, TextLexer)
    app.connect("source-read", link_to_the_repository)
