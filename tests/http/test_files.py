"""Files as the bodies of responses: read to the end, by whichever way, and closed."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path
from types import ModuleType

import pytest

CONTENT = bytes(range(256)) * 40


@pytest.fixture
def path(tmp_path: Path) -> str:
    (tmp_path / "file").write_bytes(CONTENT)
    return str(tmp_path / "file")


async def whole(package: ModuleType, path: str, size: int) -> bytes:
    file = package.http.files.File(path)
    content = b""
    while data := await file.read(size):
        content += data
    file.close()
    return content


@pytest.mark.parametrize("error", [None, BlockingIOError, OSError])
def test_a_file_is_read_to_its_end(
    package: ModuleType, path: str, error: type[OSError] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if error is not None:

        def fail(*_arguments: object) -> int:
            raise error

        monkeypatch.setattr(os, "preadv", fail)
    for size in 1000, len(CONTENT), 100_000:
        assert asyncio.run(whole(package, path, size)) == CONTENT


def test_what_is_in_memory_is_read_without_a_thread(
    package: ModuleType, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def read() -> bytes:
        file = package.http.files.File(path)
        loop = asyncio.get_running_loop()
        monkeypatch.setattr(loop, "run_in_executor", None)
        try:
            return bytes(await file.read(100))
        finally:
            file.close()

    assert asyncio.run(read()) == CONTENT[:100]


def test_only_a_regular_file_is_one(package: ModuleType, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")  # to open one waits for a writer, if nothing is done about it
    for name, said in ("missing", "No such file"), ("", "directory"), ("pipe", "not a regular"):
        with pytest.raises(OSError, match=said):
            package.http.files.File(str(tmp_path / name))


async def test_a_file_is_not_closed_under_a_thread_that_reads_it(
    package: ModuleType, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()
    monkeypatch.setattr(package.http.files, "_NOWAIT", 0)
    file = package.http.files.File(path)
    descriptor = file._file.fileno()
    read = package.http.files.File._read

    def slow(self: object, at: int, size: int) -> bytes:
        begun.set()
        go_on.wait(5)
        return bytes(read(self, at, size))

    monkeypatch.setattr(package.http.files.File, "_read", slow)
    task = asyncio.ensure_future(file.read(10))
    await asyncio.get_running_loop().run_in_executor(None, begun.wait, 5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    file.close()
    assert os.fstat(descriptor).st_size == len(CONTENT)
    go_on.set()
    await file._reading
    assert file._file.closed
