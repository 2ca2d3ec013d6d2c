"""Write what is made of the declaration of the options: `python docs/options_table.py`.

These are the tables of options.md and asgiws/options/typed.py, the types of the options.
"""

from __future__ import annotations

import re
import textwrap
from itertools import groupby
from pathlib import Path

from asgiws.options.config import OPTIONS
from asgiws.options.kinds import Option

PAGE = Path(__file__).with_name("options.md")
BEGIN = "<!-- tables: written by docs/options_table.py -->\n"
END = "<!-- end of tables -->\n"


def tables() -> str:
    """One table per group, in the order of the declaration."""
    parts = []
    for group, options in groupby(OPTIONS, key=lambda option: option.group):
        lines = [f"### {group}", "", "| Option | Takes | Default | Meaning |", "|---|---|---|---|"]
        lines += [_row(option) for option in options]
        parts.append("\n".join(lines) + "\n\n")
    return "".join(parts)


def _row(option: Option) -> str:
    flag = f"`{option.flag}`"
    if option.kind.switch:
        flag += f"<br>`--no-{option.key}`"
    cells = [flag, option.kind.expects, option.default_text, option.help]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def written(page: str) -> str:
    """The text of the page with its tables as they should be."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{tables()}{END}{after}"


TYPED = Path(__file__).parent.parent / "asgiws" / "options" / "typed.py"
TYPED_HEAD = '''\
"""The options as Python's type checkers see them; written by docs/options_table.py."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Literal, TypedDict

StrPath = str | os.PathLike[str]
Header = str | tuple[str | bytes, str | bytes]


class Options(TypedDict, total=False):
    """The keyword arguments of ``run`` and ``Config``."""
'''


def typed() -> str:
    """The text of typed.py: a key for each option, in the order of the declaration."""
    return TYPED_HEAD + "".join(_key(option) for option in OPTIONS if option.name != "app")


def _key(option: Option) -> str:
    line = f"    {option.name}: {option.typed}"
    if len(line) > 100:
        # As ruff formats it.
        words, _, rest = option.typed.removeprefix("Literal[").partition("]")
        lines = ["Literal[", *(f"    {word}," for word in words.split(", ")), "]"]
        lines += [f"| {part}" for part in rest.split(" | ")[1:]]
        indented = textwrap.indent("\n".join(lines), " " * 8)
        line = f"    {option.name}: (\n{indented}\n    )"
    expects = option.kind.expects
    parts = [
        option.help,
        # The type does not tell the unit and the bounds of a number.
        f"{expects[0].upper()}{expects[1:]}." if "number" in expects else "",
        f"Default: {option.default_text}." if option.default_text else "",
    ]
    text = " ".join(filter(None, parts))
    if "None" in option.typed:
        text = re.sub(r"\bnone\b", "None", text)
    return f"\n{line}\n{_docstring(text)}"


def _docstring(text: str) -> str:
    lines = textwrap.wrap(f'"""{text}"""', 95, break_on_hyphens=False, break_long_words=False)
    if len(lines) > 1:
        lines = [*textwrap.wrap(f'"""{text}', 95, break_on_hyphens=False), '"""']
    return textwrap.indent("\n".join(lines) + "\n", "    ")


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text("utf-8")), "utf-8")
    TYPED.write_text(typed(), "utf-8")
