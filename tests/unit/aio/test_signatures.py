"""The asynchronous face has every method of the blocking one, with the same signature."""

from __future__ import annotations

import inspect
from types import FunctionType

import pytest

import fathomdb
from fathomdb import aio
from fathomdb.admin.service import AdminService

FACES = [(fathomdb.Engine, aio.AsyncEngine), (AdminService, aio.AsyncAdminService)]
# What is meant to differ, as (annotation of the blocking one, annotation of the face).
OTHER_PARAMETERS = {"ingest": {"records": ("Records", "Records | AsyncIterable[Record]")}}
OTHER_RESULTS = {
    "nodes": ("Iterator[NodeRecord]", "AsyncIterator[NodeRecord]"),
    "admin": ("AdminService", "AsyncAdminService"),
}


def public(of: type) -> set[str]:
    return {name for name in dir(of) if not name.startswith("_")}


METHODS = [
    pytest.param(blocking, face, name, id=f"{blocking.__name__}.{name}")
    for blocking, face in FACES
    for name in sorted(public(blocking))
]


@pytest.mark.parametrize(("blocking", "face"), FACES)
def test_the_face_has_every_public_name_and_no_other(blocking, face):
    assert public(face) == public(blocking)


@pytest.mark.parametrize(("blocking", "face", "name"), METHODS)
def test_names_kinds_defaults_and_annotations_are_those_of_the_blocking_method(
    blocking, face, name
):
    method, awaited = getattr(blocking, name), getattr(face, name)
    if isinstance(method, property):
        assert isinstance(awaited, property)
        method, awaited = method.fget, awaited.fget
    wanted, found = inspect.signature(method), inspect.signature(awaited)

    parameters = []
    for parameter in wanted.parameters.values():
        differs = OTHER_PARAMETERS.get(name, {}).get(parameter.name)
        if differs is not None:
            assert parameter.annotation == differs[0]
        annotation = parameter.annotation if differs is None else differs[1]
        parameters.append(parameter.replace(annotation=annotation))
    result = wanted.return_annotation
    if name in OTHER_RESULTS:
        assert result == OTHER_RESULTS[name][0]
        result = OTHER_RESULTS[name][1]
    assert found == wanted.replace(parameters=parameters, return_annotation=result)


@pytest.mark.parametrize(("blocking", "face", "name"), METHODS)
def test_what_has_a_name_can_be_passed_by_it(blocking, face, name):
    method, awaited = getattr(blocking, name), getattr(face, name)
    if isinstance(method, property):
        return
    # A wrapper's signature is what it says of itself; what it takes is in its code.
    code = FunctionType(awaited.__code__, {}, closure=awaited.__closure__)
    _, *parameters = inspect.signature(method).parameters.values()
    inspect.signature(code).bind(
        None, **{item.name: None for item in parameters if item.kind is not item.POSITIONAL_ONLY}
    )


@pytest.mark.parametrize(("blocking", "face", "name"), METHODS)
def test_what_blocks_is_awaited_and_help_shows_its_documentation(blocking, face, name):
    awaited = getattr(face, name)
    if isinstance(awaited, property):
        assert awaited.__doc__ == getattr(blocking, name).__doc__
        return
    assert inspect.iscoroutinefunction(awaited) == (name != "nodes")
    assert awaited.__qualname__ == f"{face.__name__}.{name}"
    assert awaited.__module__ == "fathomdb.aio"
    assert awaited.__doc__.startswith(getattr(blocking, name).__doc__.partition("\n")[0])


def test_open_takes_what_the_blocking_open_takes():
    wanted, found = inspect.signature(fathomdb.open), inspect.signature(aio.open)

    assert found == wanted.replace(return_annotation="Opening")
    assert aio.open.__doc__ == fathomdb.open.__doc__


def test_the_face_is_there_as_soon_as_the_package_is():
    assert fathomdb.aio is aio
