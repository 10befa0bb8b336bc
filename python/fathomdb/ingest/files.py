"""Files and folders as one stream of records, with the bytes to read known beforehand."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fathomdb.errors import InvalidInputError
from fathomdb.ingest import read_csv, read_jsonl, read_markdown, read_parquet, read_text
from fathomdb.ingest.stream import Item, Position, RecordStream

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from fathomdb.ingest.stream import Reader

READERS: Mapping[str, Reader] = {
    ".txt": read_text.read,
    ".text": read_text.read,
    ".rst": read_text.read,
    ".md": read_markdown.read,
    ".markdown": read_markdown.read,
    ".jsonl": read_jsonl.read,
    ".ndjson": read_jsonl.read,
    ".csv": read_csv.read,
    ".tsv": read_csv.read,
    ".parquet": read_parquet.read,
}
"""The reader of each suffix, in lower case."""
_DOCUMENTS = (read_text.read, read_markdown.read)


@dataclass(frozen=True, slots=True)
class _File:
    root: str
    # Relative to the folder that was given, or the name of a file that was given; with slashes.
    relative: str
    path: str
    size: int

    @property
    def reader(self) -> Reader:
        return READERS[_suffix(self.path)]


def open_records(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
) -> RecordStream:
    """The records of files and folders, which are walked in sorted order.

    A text or Markdown file is one record with the columns ``id`` and ``path`` (both its path
    relative to the folder that was given, or its name), ``text``, and for Markdown ``title``. JSON
    lines, CSV, TSV and Parquet files have the columns that they have. All of them have the path
    that was given as their ``source_ref``, unless ``ingest`` is told another.

    In a folder, hidden files, links to folders, and files of other suffixes are skipped; the
    stream's ``skipped`` counts them by reason. Memory grows by a path for each file, not with what
    is in it.

    Raises:
        InvalidInputError: A path does not exist, cannot be read or has a suffix that is not known,
            or two documents would get the same id.
        MissingExtraError: There is a Parquet file and pyarrow is not installed.
    """
    given = [paths] if isinstance(paths, (str, os.PathLike)) else [*paths]
    skipped: Counter[str] = Counter()
    found: dict[str, _File] = {}
    documents: dict[str, _File] = {}
    for root in given:
        for file in _walk(_checked(root), skipped):
            if found.setdefault(os.path.abspath(file.path), file) is not file:
                continue  # named twice: as itself and by its folder
            if file.reader in _DOCUMENTS:
                other = documents.setdefault(file.relative, file)
                if other is not file:
                    raise InvalidInputError(
                        f"{shown(other.path)} and {shown(file.path)} would both get the id "
                        f"{shown(file.relative)!r}; ingest a folder that holds both"
                    )
    files = [*found.values()]
    if any(file.reader is read_parquet.read for file in files):
        read_parquet.check_installed()
    position = Position()
    return RecordStream(
        _read(files, position),
        total_bytes=sum(file.size for file in files),
        skipped=dict(skipped),
        position=position,
    )


def shown(path: str) -> str:
    """A path that can be printed, whatever bytes its name is made of."""
    return path.encode("utf-8", "backslashreplace").decode()


def _checked(path: str | os.PathLike[str]) -> str:
    given = os.fspath(path)
    if not isinstance(given, str) or not given or "\0" in given:
        raise InvalidInputError(f"a path to ingest must be a string, got {given!r}")
    return os.path.normpath(given)


def _suffix(path: str) -> str:
    return os.path.splitext(path)[1].lower()


def _walk(root: str, skipped: Counter[str]) -> Iterator[_File]:
    if not os.path.isdir(root):
        if not os.path.exists(root):
            raise InvalidInputError(f"there is no file or folder {shown(root)}")
        if not os.path.isfile(root):
            raise InvalidInputError(f"{shown(root)} is neither a file nor a folder")
        if _suffix(root) not in READERS:
            raise InvalidInputError(
                f"{shown(root)} has a suffix that is not known; known are {', '.join(READERS)}"
            )
        yield _File(root, os.path.basename(root), root, os.path.getsize(root))
        return
    for folder, folders, names in os.walk(root, onerror=_refuse_folder):
        skipped.update(_leave_out(folder, folders))
        folders.sort()
        for name in sorted(names):
            path = os.path.join(folder, name)
            if name.startswith("."):
                skipped["hidden"] += 1
            elif _suffix(name) not in READERS:
                skipped[f"suffix {shown(_suffix(name))}" if _suffix(name) else "no suffix"] += 1
            elif not os.path.isfile(path):
                skipped["not a file"] += 1
            else:
                relative = os.path.relpath(path, root).replace(os.sep, "/")
                yield _File(root, relative, path, os.path.getsize(path))


def _refuse_folder(error: OSError) -> None:
    raise InvalidInputError(f"{shown(str(error.filename))} cannot be read: {error.strerror}")


def _leave_out(parent: str, folders: list[str]) -> Iterator[str]:
    """Takes the folders that are not walked out of the list; the reason of each."""
    for name in [*folders]:
        if name.startswith("."):
            folders.remove(name)
            yield "hidden"
        elif os.path.islink(os.path.join(parent, name)):
            folders.remove(name)
            yield "link to a folder"


def _read(files: list[_File], position: Position) -> Generator[Item]:
    end = 0
    for file in files:
        end += file.size
        where = shown(file.path)
        try:
            for item in file.reader(file.path, position):
                record = item.record
                if file.reader in _DOCUMENTS and isinstance(record, Mapping):
                    record = {"id": file.relative, "path": file.relative, **record}
                place = f"{where}, {item.place}" if item.place else where
                yield Item(record, place, item.problem, file.root)
        except OSError as error:
            yield Item(None, where, f"it cannot be read: {error.strerror or error}", file.root)
        # What was not read of a bad file will not be read.
        position.bytes_read = end
