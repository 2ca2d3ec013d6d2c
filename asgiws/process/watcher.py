"""The program that watches files: ``python -m asgiws.process.watcher``.

It is a process of its own, so that neither its library nor its threads are in the supervisor. Its
argument says what to watch. Its output is one JSON object a line: ``{"changed": [...], "count":
3}`` or ``{"problem": "..."}``. Changes that come close together make one line. It ends when its
output is not read any more.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

STEP_SECONDS = 0.025  # between two looks at what the kernel has told
LONGEST_SECONDS = 2.0  # that changes are joined, where they never cease
MOST_NAMED = 20  # of the files of one line
ALWAYS = "*.py"  # is watched unless it is excluded
ADDED = 1  # watchfiles.Change.added
POLLING = "WATCHFILES_FORCE_POLLING"

# Names that are never watched, unless they are asked for. Directories, with all below them;
NOT_INSIDE = (".*", "__pycache__", "node_modules", "site-packages")
# and what editors write beside a file, and interpreters.
NOT_NAMED = ("*~", "#*#", "*___jb_???___", "*.sw?", "4913", "*.py[cod]")


@dataclass(frozen=True)
class Watched:
    """The files to watch, as the supervisor tells the program.

    ``directories`` are absolute, and watched with all below them for files that
    ``includes`` name and ``excludes`` do not. ``files`` are watched wherever they are.
    Files that have changed after ``since`` (a time of the system) are reported, too.
    """

    directories: tuple[str, ...]
    includes: tuple[str, ...] = ()
    excludes: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    delay: float = 0.0
    since: float = math.inf

    @classmethod
    def of(
        cls,
        directories: Iterable[str],
        includes: Iterable[str] = (),
        excludes: Iterable[str] = (),
        files: Iterable[str] = (),
        delay: float = 0.0,
    ) -> Watched:
        """The same from the words of a user, which are relative to the current directory.

        One of ``includes`` may also name a directory: it is watched, too; or a file that
        is in none of the directories.
        """
        roots = [os.path.abspath(path) for path in directories]
        patterns, single = [], [os.path.abspath(path) for path in files]
        for word in includes:
            if os.path.isdir(word):
                roots.append(os.path.abspath(word))
            else:
                patterns.append(word)
                if not set(word) & set("*?["):
                    single.append(os.path.abspath(word))
        return cls(tuple(roots), tuple(patterns), tuple(excludes), tuple(single), delay)

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Watched:
        fields: dict[str, Any] = json.loads(text)
        for name, value in fields.items():
            fields[name] = tuple(value) if isinstance(value, list) else value
        return cls(**fields)


# --- Which files -----------------------------------------------------------------------


class Chosen:
    """The rule that decides whether changes of a file count.

    A pattern without a slash is the name of a file, or (to exclude) of a directory too;
    one with slashes matches the end of a path, and ``**`` any number of its parts. As in
    a shell, a leading dot must be written out. What is excluded is excluded with all
    below it, and wins over what is included.
    """

    def __init__(self, watched: Watched) -> None:
        self._roots = [Path(path) for path in watched.directories]
        self._files = set(watched.files)
        self._excludes = [_parts(word) for word in watched.excludes]
        always = () if ALWAYS in watched.excludes else (ALWAYS,)
        self._includes = [_parts(word) for word in (*always, *watched.includes)]
        self._here = Path.cwd()

    def __call__(self, name: str) -> bool:
        path = Path(name)
        return name in self._files or any(
            self._in(root, path) for root in self._roots if root in path.parents
        )

    def _in(self, root: Path, path: Path) -> bool:
        inside = path.relative_to(root).parts
        base = self._here if self._here in root.parents or self._here == root else root.parent
        seen = path.relative_to(base).parts
        return (
            any(self._included(glob, path.parts, inside) for glob in self._includes)
            and not any(_covers(glob, path.parts, seen) for glob in self._excludes)
            and not any((parent / "pyvenv.cfg").exists() for parent in _below(root, path))
        )

    def _included(self, glob: Sequence[str], path: Sequence[str], inside: Sequence[str]) -> bool:
        *directories, name = glob
        return (
            _ends(path if directories else inside, glob)
            and not any(_hidden(part, directories) for part in inside[:-1])
            and not any(fnmatchcase(inside[-1], word) for word in NOT_NAMED if word != name)
        )


def _hidden(directory: str, named: Sequence[str]) -> bool:
    """Return whether such a directory is never watched, and is not one of those ``named``."""
    return any(fnmatchcase(directory, word) for word in NOT_INSIDE) and not any(
        fnmatchcase(directory, word) for word in named if word.strip("*")
    )


def _parts(pattern: str) -> tuple[str, ...]:
    if pattern.startswith(("./", "../", "~/")):
        pattern = os.path.abspath(os.path.expanduser(pattern))
    return Path(pattern).parts


def _ends(path: Sequence[str], glob: Sequence[str]) -> bool:
    """Return whether the last parts of ``path`` match ``glob``, all of it."""
    if not glob:
        return True
    *first, last = glob
    if last == "**":
        return any(_ends(path[:count], first) for count in range(len(path) + 1))
    return (
        bool(path)
        and fnmatchcase(path[-1], last)
        and (last[0] == "." or path[-1][0] != ".")
        and _ends(path[:-1], first)
    )


def _covers(glob: Sequence[str], path: Sequence[str], seen: Sequence[str]) -> bool:
    """True if ``glob`` matches a file or a directory above it; ``seen`` is the path from here."""
    parts = path if glob[:1] == ("/",) else seen
    return any(_ends(parts[:count], glob) for count in range(1, len(parts) + 1))


def _below(root: Path, path: Path) -> Iterator[Path]:
    """The directories between ``root`` and ``path``."""
    for parent in path.parents:
        if parent == root:
            return
        yield parent


# --- What changes ----------------------------------------------------------------------


Stamp = tuple[int, ...] | None


def _stamp(path: str) -> Stamp:
    """The facts about a file that change with its content."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _identity(path: str) -> Stamp:
    """The facts about a directory that differ in another one of the same name."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _files_in(directory: str) -> Iterator[str]:
    """All files below a directory that may be read."""
    for parent, inner, names in os.walk(directory):
        inner[:] = [name for name in inner if not _hidden(name, ())]
        yield from (os.path.join(parent, name) for name in names)


class Eyes:
    """Watches, and gives the files that have changed since it was last asked."""

    def __init__(
        self,
        watched: Watched,
        over: Callable[[], bool],
        tell: Callable[[str], object],
        watch: Callable[..., Iterator[Iterable[tuple[int, str]]]],
    ) -> None:
        self._roots = watched.directories
        self._since = watched.since
        self._chosen = Chosen(watched)
        self._stamps = {path: _stamp(path) for path in watched.files}
        self._over = over
        self._tell = tell
        self._watch = watch
        self._told: set[str] = set()
        self._polling: bool | None = None  # as the environment says

    # The library wants an event to look at.
    def is_set(self) -> bool:
        return self._over()

    def ticks(self) -> Iterator[set[str]]:
        """The files that have changed, mostly none, every few milliseconds, until it is over."""
        known = {root: _identity(root) for root in self._roots}
        again: set[str] = set()
        while not self._over():
            there = [root for root in self._roots if known[root]]
            try:
                for changes in self._looks(there):
                    yield again | self._counting(changes) | self._missed()
                    again = set()
                    now = {root: _identity(root) for root in self._roots}
                    if now != known:
                        again = self._moved(known, now)
                        known = now
                        break
            except FileNotFoundError:
                known = dict.fromkeys(known)  # gone meanwhile: look again
            except (OSError, RuntimeError) as error:
                self._cannot(error)

    def _looks(self, roots: list[str]) -> Iterator[Iterable[tuple[int, str]]]:
        if not roots:
            while not self._over():
                time.sleep(STEP_SECONDS)
                yield ()
            return
        step = int(STEP_SECONDS * 1000)
        yield from self._watch(
            *roots,
            watch_filter=None,
            step=step,
            debounce=step,
            rust_timeout=step,
            yield_on_timeout=True,
            stop_event=self,
            raise_interrupt=False,
            force_polling=self._polling,
            ignore_permission_denied=True,
        )

    def _counting(self, changes: Iterable[tuple[int, str]]) -> set[str]:
        """The files whose changes count, of those that are said to have changed."""
        found = set()
        for change, path in changes:
            if self._chosen(path):
                found.add(path)
            elif change == ADDED and os.path.isdir(path):
                # It is watched from now on; files that are in it already would go unseen.
                found.update(file for file in _files_in(path) if self._chosen(file))
        for path, before in self._stamps.items():
            if (stamp := _stamp(path)) != before:
                self._stamps[path] = stamp
                found.add(path)
        return found

    def _missed(self) -> set[str]:
        """The files that have changed before they were watched, as the clock tells."""
        since, self._since = self._since, math.inf
        if since == math.inf:
            return set()
        files = itertools.chain(self._stamps, *map(_files_in, self._roots))
        return {
            file
            for file in filter(self._chosen, files)
            if (stamp := _stamp(file)) and since * 1e9 < stamp[0]
        }

    def _moved(self, before: dict[str, Stamp], now: dict[str, Stamp]) -> set[str]:
        """Directories are gone, or are there again, or are others."""
        for root in self._roots:
            if before[root] and not now[root]:
                self._tell(f"{root} is gone: what is in it is watched as soon as it is back")
        return {root for root in self._roots if now[root] and now[root] != before[root]}

    def _cannot(self, error: Exception) -> None:
        """The kernel does not watch: go on by looking at all files again and again."""
        reason = str(error)
        limit = "limit" in reason or "os error 24" in reason
        if limit and not self._polling:
            self._polling = True
            self._tell(
                "the system's limit for watching files is reached (fs.inotify.max_user_watches or "
                "max_user_instances): polling them instead, which is slower; raise the limit, or "
                f"watch less (--reload-dir), or set {POLLING}=1 to have it so from the start"
            )
        else:
            if reason not in self._told:
                self._told.add(reason)
                self._tell(f"watching files: {reason} (with {POLLING}=1 they are polled instead)")
            time.sleep(STEP_SECONDS)


def joined(
    ticks: Iterator[set[str]], delay: float, clock: Callable[[], float] = time.monotonic
) -> Iterator[set[str]]:
    """The changes that come close together, as one: nothing has changed for ``delay`` then."""
    changed: set[str] = set()
    first = last = 0.0
    for paths in ticks:
        now = clock()
        if paths:
            first = first if changed else now
            last = now
            changed |= paths
        if changed and (now - last >= delay or now - first >= LONGEST_SECONDS + delay):
            yield changed
            changed = set()


# --- The program -----------------------------------------------------------------------


class Reader:
    """The reader of the lines, over a pipe or a socket."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._poll = select.poll()
        self._poll.register(descriptor, 0)  # poll always tells that the other end is closed

    def is_gone(self) -> bool:
        return bool(self._poll.poll(0))

    def write(self, **line: Any) -> None:
        data = json.dumps(line).encode() + b"\n"
        while data:
            data = data[os.write(self._descriptor, data) :]


def main(what: str, descriptor: int) -> None:
    """Watch ``what`` (a ``Watched`` as JSON), until the other end is closed."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the supervisor's to decide, also if all get it
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # gone while it is told
    from watchfiles import watch

    watched = Watched.from_json(what)
    reader = Reader(descriptor)
    eyes = Eyes(watched, reader.is_gone, lambda text: reader.write(problem=text), watch)
    for changed in joined(eyes.ticks(), watched.delay):
        reader.write(changed=sorted(changed)[:MOST_NAMED], count=len(changed))


if __name__ == "__main__":
    main(sys.argv[1], sys.stdout.fileno())
