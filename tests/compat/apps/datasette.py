"""Datasette with one table, in a database that is made anew for every server."""

from __future__ import annotations

import sqlite3
import tempfile
from pathlib import Path

from datasette.app import Datasette

ROWS = 20_000
WIDTH = 1_000  # characters of a row, so that the table is larger than any socket's buffers

directory = tempfile.TemporaryDirectory()
path = Path(directory.name) / "library.db"
with sqlite3.connect(path) as database:
    database.execute("create table books (id integer primary key, title text)")
    database.executemany(
        "insert into books (title) values (?)",
        ((f"Volume {number} ".ljust(WIDTH, "."),) for number in range(1, ROWS + 1)),
    )
database.close()

app = Datasette([str(path)]).app()
