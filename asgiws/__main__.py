"""``python -m asgiws``: the same as ``asgiws``."""

from .cli import main

main()
