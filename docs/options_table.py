"""Write the tables of options.md from the declaration: `python docs/options_table.py`."""

from __future__ import annotations

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


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text("utf-8")), "utf-8")
