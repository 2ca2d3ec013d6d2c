"""The two builds side by side: ``asgiws`` as installed, and its interpreted twin.

The twin is the whole package loaded once more, from its source files, under the
name ``asgiws_interpreted``: no class is shared, so nothing of one build can leak
into a test of the other.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest
from zlib_ng import zlib_ng

import asgiws
from asgiws._build import InterpretedFinder

TWIN = "asgiws_interpreted"


def load_twin() -> ModuleType:
    root = Path(asgiws.__file__).parent
    sys.meta_path.insert(0, InterpretedFinder(TWIN))
    spec = importlib.util.spec_from_file_location(
        TWIN, root / "__init__.py", submodule_search_locations=[str(root)]
    )
    assert spec is not None
    assert spec.loader is not None
    twin = importlib.util.module_from_spec(spec)
    sys.modules[TWIN] = twin
    spec.loader.exec_module(twin)
    assert twin.build() == "pure Python"
    # Chosen, so that no start of a server warns of it.
    twin._build.is_pure_chosen = lambda: True  # type: ignore[attr-defined]
    return twin


BUILDS = {"interpreted": load_twin()}
if asgiws.build() == "compiled":
    BUILDS["compiled"] = asgiws

#: ASGIWS_PURE for a program in each build. With ASGIWS_PURE=1 the compiled modules may be old.
PURE = ["0", "1"] if "compiled" in BUILDS else ["1"]

LIBRARIES: dict[str, ModuleType] = {"zlib": zlib, "zlib-ng": zlib_ng}


@contextmanager
def deflating_with(library: str) -> Iterator[None]:
    """Both builds deflate and inflate with this library by default while the block runs."""
    with pytest.MonkeyPatch.context() as patch:
        for package in BUILDS.values():
            patch.setitem(package.wire.deflate.LIBRARIES, "zlib", LIBRARIES[library])
        yield


def builds_with_libraries() -> Iterator[ModuleType]:
    """Each build with each library in turn, for the body of a loop."""
    for library in LIBRARIES:
        with deflating_with(library):
            yield from BUILDS.values()
