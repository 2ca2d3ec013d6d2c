"""Compiles the modules that ``asgiws/_build.py`` lists; everything else is in ``pyproject.toml``.

Each is an ordinary ``.py`` file. Without a compiler the build goes on without, and the files are
interpreted. ``CFLAGS`` can choose another optimization (``-O1``) or debug information (``-g``).
What is generated on the way stays in a temporary directory, except for
``python setup.py build_ext --inplace``, which keeps it in ``build`` and compiles what has changed.
"""

from __future__ import annotations

import os
import re
import runpy
import shlex
import sys
import tempfile
import tomllib
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CCompilerError

ROOT = Path(__file__).resolve().parent
# Executed alone: importing the package would need its dependencies, which a build has not.
BUILD = runpy.run_path(str(ROOT / "asgiws" / "_build.py"))
MODULES: tuple[str, ...] = BUILD["COMPILED_MODULES"]
OPTIMIZATION = {
    # Loops over the bytes of messages.
    "asgiws.wire.filling": "-O3",
    "asgiws.wire.masking": "-O3",
    "asgiws.wire.utf8": "-O3",
    # What runs once for a connection, or less often.
    "asgiws.http.bodies": "-Os",
    "asgiws.http.forwarded": "-Os",
    "asgiws.http.stream": "-Os",
    "asgiws.transport.ending": "-Os",
    "asgiws.websocket.limits": "-Os",
    "asgiws.websocket.pulse": "-Os",
    "asgiws.websocket.watch": "-Os",
    "asgiws.wire.grammar": "-Os",
    "asgiws.wire.handshake": "-Os",
    "asgiws.wire.host": "-Os",
}
# The functions of all others do without what inspect would see of them, a sixth of the size; of
# these modules an application gets coroutine functions.
LOOKED_AT = ("asgiws.http.exchange", "asgiws.websocket.session")
# What Cython would put into each of the others, a seventh of their size, is in this module. Some of
# it runs for every message, so it is compiled as they are.
SHARED = "asgiws._cython"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def processors() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Compile(build_ext):
    """Translate with Cython and compile, both on all processors."""

    def finalize_options(self) -> None:
        super().finalize_options()
        if self.parallel is None:
            self.parallel = processors()

    def build_extensions(self) -> None:
        if not self.compiler_works():
            print(
                "asgiws: no C compiler works here, so nothing is compiled and the interpreted "
                "build is installed",
                file=sys.stderr,
            )
            # An editable install takes what it expects to be built from the tree.
            self.extensions[:] = []
            return
        from Cython.Build import cythonize

        folder = Path(self.build_temp, "generated")
        folder.mkdir(parents=True, exist_ok=True)
        for extension in self.extensions:
            extension.cython_directives = {"binding": extension.name in LOOKED_AT}
        translated = cythonize(
            self.extensions,
            nthreads=self.parallel if sys.platform != "win32" else 0,
            build_dir=str(folder),
            force=self.force,
            # Nothing of these is pickled, and each class would carry the code for it.
            compiler_directives={"auto_pickle": False},
            shared_utility_qualified_name=SHARED,
            shared_utility_features_disabled=["AutoPickle", "MemoryView"],
            quiet=not self.verbose,
        )
        for extension, new in zip(self.extensions, translated, strict=True):
            extension.sources = new.sources
            extension.extra_compile_args, extension.extra_link_args = flags(
                self.compiler.compiler_type, extension.name, debug=bool(self.debug)
            )
        super().build_extensions()
        for extension in self.extensions:
            # What did not need to be compiled again is not old either.
            built = Path(self.get_ext_fullpath(extension.name))
            if built.exists():
                os.utime(built)

    def compiler_works(self) -> bool:
        """Whether an empty module compiles: asked once, before Cython works for nothing."""
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, "empty.c")
            source.write_text("#include <Python.h>\n")
            try:
                self.compiler.compile(
                    [str(source)], output_dir=folder, include_dirs=self.include_dirs
                )
            except CCompilerError:
                return False
        return True


def flags(compiler: str, name: str, *, debug: bool = False) -> tuple[list[str], list[str]]:
    """The compiler's and the linker's arguments for a module.

    ``CFLAGS`` goes first. For most modules -O3 saves nothing beside -O2, and -Os for all of HTTP
    would take 3 % more instructions for a request, with code that is a quarter smaller. Debug
    information and symbols would be most of a wheel, and tables that only native debuggers read
    a fifteenth. Padding for alignment would be a fiftieth.
    """
    if compiler != "unix":
        return [], []  # MSVC: /O2 and no debug information are its defaults here
    given = shlex.split(os.environ.get("CFLAGS", ""))
    compile_args = []
    link_args = []
    if not any(flag.startswith("-O") for flag in given):
        compile_args.append(OPTIMIZATION.get(name, "-O2"))
    if not debug and not any(re.match(r"-g(?!0)", flag) for flag in given):
        compile_args += ["-g0", "-fno-asynchronous-unwind-tables"]
        if sys.platform.startswith("linux"):
            # A call into CPython without a detour by way of the linker's table.
            compile_args.append("-fno-plt")
            if OPTIMIZATION.get(name) != "-O3":
                compile_args += ["-falign-functions=1", "-falign-jumps=1", "-falign-loops=1"]
            link_args += ["-s", "-Wl,-z,noseparate-code"]
    return compile_args, link_args


def page() -> str:
    """The README for a package index, which has none of the repository's files: absolute links."""
    source = PROJECT["urls"]["Source"]
    raw = source.replace("//github.com/", "//raw.githubusercontent.com/")

    def absolute(match: re.Match[str]) -> str:
        path = match["path"]
        if match["picture"]:
            return f"{match[0][: match.start('path') - match.start()]}{raw}/main/{path})"
        kind = "tree" if (ROOT / path.partition("#")[0]).is_dir() else "blob"
        return f"]({source}/{kind}/main/{path})"

    text = (ROOT / "README.md").read_text("utf-8")
    link = r"(?P<picture>!\[[^\]]*)?\]\((?P<path>(?![a-z]+:|#)[^)\s]+)\)"
    return re.sub(link, absolute, text)


def places(scratch: str) -> dict[str, dict[str, str]]:
    """Options of commands that keep what they generate out of the tree.

    An sdist reads its metadata from the tree, and a build in place wants what it made before.
    """
    if {"sdist", "--inplace", "-i"} & set(sys.argv):
        return {}
    return {
        "build": {"build_base": scratch},
        "bdist_wheel": {"bdist_dir": str(Path(scratch, "wheel"))},
        "egg_info": {"egg_base": scratch},
    }


if __name__ == "__main__":
    if refusal := BUILD["refusal"]():
        sys.exit(refusal)
    with tempfile.TemporaryDirectory(prefix="asgiws-build-") as scratch:
        setup(
            long_description=page(),
            long_description_content_type="text/markdown",
            ext_modules=[
                *(
                    Extension(
                        f"asgiws.{name}", [f"asgiws/{name.replace('.', '/')}.py"], optional=True
                    )
                    for name in MODULES
                ),
                Extension(SHARED, []),  # Cython writes its source
            ],
            cmdclass={"build_ext": Compile},
            options=places(scratch),
        )
