"""The tests stand in the rooms of the package: one file for each module."""

from __future__ import annotations

from pathlib import Path

import asgiws

PACKAGE = Path(asgiws.__file__).parent
TESTS = Path(__file__).parent
ROOMS = [folder.name for folder in PACKAGE.iterdir() if (folder / "__init__.py").exists()]

# Nothing of these runs: they are names of types.
TYPES = {"asgi", "http/stream"}


def test_each_module_has_a_test_file_of_its_own() -> None:
    """But for those whose names begin with an underscore: every test runs on these."""
    modules = {
        str(path.relative_to(PACKAGE).with_suffix(""))
        for path in PACKAGE.rglob("*.py")
        if path.name[0] != "_"
    }
    assert len(modules) > 30
    named = {
        module: TESTS / Path(module).parent / f"test_{Path(module).name}.py" for module in modules
    }
    missing = {module for module, file in named.items() if not file.exists()}
    assert missing <= TYPES


def test_each_room_has_a_room_of_tests() -> None:
    assert len(ROOMS) > 4
    for room in ROOMS:
        assert any((TESTS / room).glob("test_*.py")), room
        assert (TESTS / room / "__init__.py").exists(), room
