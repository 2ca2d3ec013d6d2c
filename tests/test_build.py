"""What is compiled and how, what a start says of the build, and what an install leaves behind."""

from __future__ import annotations

import io
import os
import re
import runpy
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest

from asgiws import _build
from asgiws._build import COMPILED_MODULES

ROOT = Path(__file__).parent.parent
WHEEL_BYTES = 1_300_000


@pytest.fixture(scope="module")
def setup() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "setup.py"))


def test_each_compiled_module_has_a_source_and_each_header_a_module() -> None:
    package = ROOT / "asgiws"
    paths = {Path(*name.split(".")) for name in COMPILED_MODULES}
    assert len(paths) == len(COMPILED_MODULES)
    assert all((package / path).with_suffix(".py").exists() for path in paths)
    headers = {path.relative_to(package).with_suffix("") for path in package.rglob("*.pxd")}
    assert headers <= paths


def test_setup_compiles_what_the_package_lists(setup: dict[str, Any]) -> None:
    assert setup["MODULES"] == COMPILED_MODULES
    assert setup["OPTIMIZATION"].keys() <= {f"asgiws.{name}" for name in COMPILED_MODULES}


@pytest.mark.parametrize(
    ("cflags", "compiled", "linked"),
    [
        ("", "-O2 -g0", True),
        ("-O1", "-g0", True),
        ("-g -O1", "", False),
        ("-g0", "-O2 -g0", True),
    ],
)
def test_cflags_go_before_our_own(
    setup: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    cflags: str,
    compiled: str,
    linked: bool,
) -> None:
    monkeypatch.setenv("CFLAGS", cflags)
    ours, linking = setup["flags"]("unix", "asgiws.http.scope")
    assert [flag for flag in ours if flag.startswith(("-O", "-g"))] == compiled.split()
    assert ("-s" in linking) == (linked and sys.platform == "linux")
    assert setup["flags"]("msvc", "asgiws.http.scope") == ([], [])


def test_loops_over_bytes_get_all_that_the_compiler_has(
    setup: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CFLAGS", raising=False)
    assert "-O3" in setup["flags"]("unix", "asgiws.wire.masking")[0]
    assert "-Os" in setup["flags"]("unix", "asgiws.http.forwarded")[0]
    aligned = [
        name
        for name in setup["OPTIMIZATION"]
        if not any(flag.startswith("-falign") for flag in setup["flags"]("unix", name)[0])
    ]
    if sys.platform == "linux":
        assert aligned == ["asgiws.wire.filling", "asgiws.wire.masking", "asgiws.wire.utf8"]


def test_the_page_of_a_package_index_has_absolute_links(setup: dict[str, Any]) -> None:
    page = setup["page"]()
    links = re.findall(r"\]\(([^)\s]+)\)", page)
    assert len(links) > 20
    assert all(link.startswith(("https://", "#")) for link in links)
    pictures = re.findall(r"!\[[^\]]*\]\(([^)\s]+)\)", page)
    assert pictures
    assert all("//raw.githubusercontent.com/" in picture for picture in pictures)
    assert "/blob/main/docs/topics.md" in page


class TestRemarks:
    def test_a_good_build_is_worth_no_word(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(_build, "interpreted", list)
        monkeypatch.setattr(_build, "stale", list)
        assert _build.remarks() == []

    def test_a_slow_build_that_nobody_chose_is_told_with_its_price(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("ASGIWS_PURE", raising=False)
        monkeypatch.setattr(_build, "interpreted", lambda: ["wire.utf8"])
        (remark,) = _build.remarks()
        assert f"1 of {len(COMPILED_MODULES)} modules" in remark
        assert "CPU time" in remark
        assert "Install a C compiler" in remark
        monkeypatch.setenv("ASGIWS_PURE", "1")
        assert _build.remarks() == []

    def test_an_old_module_is_named_with_the_command_that_renews_it(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("ASGIWS_PURE", raising=False)
        monkeypatch.setattr(_build, "interpreted", list)
        monkeypatch.setattr(_build, "stale", lambda: ["wire.utf8"])
        (remark,) = _build.remarks()
        assert "wire.utf8" in remark
        assert "python setup.py build_ext --inplace" in remark

    def test_a_compiled_module_is_old_when_its_source_is_newer(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        compiled = tmp_path / "utf8.so"
        compiled.touch()
        monkeypatch.setattr(_build, "_is_checkout", lambda: True)
        monkeypatch.setattr(_build, "COMPILED_MODULES", ("wire.utf8",))
        monkeypatch.setattr(_build, "_file", lambda _name: compiled)
        assert _build.stale() == []
        os.utime(compiled, (1, 1))
        assert _build.stale() == ["wire.utf8"]
        monkeypatch.setattr(_build, "_is_checkout", lambda: False)
        assert _build.stale() == []


def test_a_free_threaded_interpreter_is_refused_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert _build.refusal() is None
    monkeypatch.setattr(sys, "version", f"{sys.version} free-threading build")
    with pytest.raises(ImportError, match="does not support the free-threaded build of CPython"):
        _build.select()


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel and a source distribution of a clone, which is beside them.

    ``DISTRIBUTIONS`` is a directory where all three are already.
    """
    if "DISTRIBUTIONS" in os.environ:
        return Path(os.environ["DISTRIBUTIONS"])
    place = tmp_path_factory.mktemp("distributions")
    clone = place / "clone"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
    command = [sys.executable, "-m", "build", "-q", "--outdir", str(place), str(clone)]
    subprocess.run(command, check=True)
    return place


@pytest.mark.slow
class TestDistributions:
    """Built once, in an environment of its own. 90 s."""

    def test_a_wheel_is_small_and_has_every_compiled_module(self, distributions: Path) -> None:
        (wheel,) = distributions.glob("*.whl")
        assert wheel.stat().st_size <= WHEEL_BYTES
        names = zipfile.ZipFile(wheel).namelist()
        for name in (*COMPILED_MODULES, "_cython"):
            assert any(
                entry.startswith(f"asgiws/{name.replace('.', '/')}.c") and entry.endswith(".so")
                for entry in names
            ), name
        assert not [name for name in names if name.endswith((".c", ".o", ".pxd"))]
        assert "asgiws/py.typed" in names

    def test_a_build_leaves_nothing_in_the_clone(self, distributions: Path) -> None:
        status = ["git", "status", "--porcelain", "--ignored"]
        left = subprocess.run(
            status, cwd=distributions / "clone", check=True, capture_output=True, text=True
        ).stdout
        assert [line for line in left.splitlines() if not line.endswith(".egg-info/")] == []

    def test_a_source_distribution_has_all_that_its_tests_need(self, distributions: Path) -> None:
        (archive,) = distributions.glob("*.tar.gz")
        with tarfile.open(fileobj=io.BytesIO(archive.read_bytes())) as tar:
            held = {name.partition("/")[2] for name in tar.getnames()}
        listed = ["git", "ls-files"]
        files = subprocess.run(
            listed, cwd=distributions / "clone", check=True, capture_output=True, text=True
        ).stdout.split("\n")[:-1]
        places = ("asgiws/", "tests/", "docs/", "examples/", "benchmarks/")
        wanted = [name for name in files if name.startswith(places) or "/" not in name]
        assert [name for name in wanted if name not in held and not name.startswith(".")] == []


def test_each_declared_python_has_a_wheel() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    classifiers = "\n".join(project["project"]["classifiers"])
    versions = re.findall(r"Python :: (3)\.(\d+)$", classifiers, re.MULTILINE)
    wheels = project["tool"]["cibuildwheel"]["build"].split()
    assert wheels == [f"cp{major}{minor}-*" for major, minor in versions]
