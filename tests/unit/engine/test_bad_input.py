"""Bad input gets a typed error that names the value, and nothing of the request is stored."""

from __future__ import annotations

import math
from decimal import Decimal
from types import MappingProxyType

import numpy as np
import pytest

from fathomdb import (
    Chunk,
    DimensionMismatchError,
    InvalidInputError,
    Node,
    NonFiniteVectorError,
)
from fathomdb.store import chunks, nodes, queue, status

GOOD = Node("Doc", "good", "a good node beside the bad one", {"n": 1})


def content(db):
    """All that a write could change, and the sizes of the queue and of full text."""
    with db._runtime.snapshot() as reader:
        return (
            status.cursor(reader),
            db.count(),
            chunks.count(reader),
            [*db.nodes()],
            {
                kind: (waiting.pending_incremental, waiting.failed)
                for kind, waiting in queue.backlogs(reader).items()
            },
            nodes.superseded(reader, "live"),
            len(db.text_search("good live text", limit=100)),
            [kind.kind for kind in db.admin.status().kinds],
        )


@pytest.fixture
def live(db):
    db.write(Node("Doc", "live", "live text", {"a": 1}, chunks=None))
    db.write(Node("Doc", "parts", chunks=[Chunk("the first", "part-1"), "the second"]))
    return db


def circular():
    value: dict = {}
    value["itself"] = [value]
    return value


def nested(levels):
    value: dict = {}
    for _ in range(levels):
        value = {"deeper": [value]}
    return value


BAD_NODES = {
    "kind-empty": (Node("", "x", "t"), "kind must not be empty"),
    "kind-nul": (Node("D\0c", "x", "t"), r"'D\x00c'"),
    "kind-surrogate": (Node("D\ud800", "x", "t"), r"'\ud800'"),
    "kind-none": (Node(None, "x", "t"), "NoneType"),
    "kind-bytes": (Node(b"Doc", "x", "t"), "b'Doc'"),
    "id-empty": (Node("Doc", "", "t"), "node_id must not be empty"),
    "id-nul": (Node("Doc", "a\0b", "t"), r"'a\x00b'"),
    "id-surrogate": (Node("Doc", "a\udfff", "t"), r"'\udfff'"),
    "id-number": (Node("Doc", 17, "t"), "17"),
    "id-too-long": (Node("Doc", "é" * 600, "t"), "1200"),
    "text-empty": (Node("Doc", "x", ""), "'x'"),
    "text-blank": (Node("Doc", "x", " \n\t\u2003"), "'x'"),
    "text-bytes": (Node("Doc", "x", b"text"), "b'text'"),
    "text-number": (Node("Doc", "x", 4.5), "4.5"),
    "text-surrogate": (Node("Doc", "x", "abc\ud83dxyz"), r"character 3 ('\ud83d')"),
    "source-empty": (Node("Doc", "x", "t", source_ref=""), "source_ref must not be empty"),
    "source-nul": (Node("Doc", "x", "t", source_ref="a\0"), r"'a\x00'"),
    "source-surrogate": (Node("Doc", "x", "t", source_ref="\ud800"), r"'\ud800'"),
    "source-number": (Node("Doc", "x", "t", source_ref=3), "3"),
    "properties-list": (Node("Doc", "x", "t", [1, 2]), "[1, 2]"),
    "properties-string": (Node("Doc", "x", "t", "{}"), "'{}'"),
    "properties-nan": (Node("Doc", "x", "t", {"a": math.nan}), "nan"),
    "properties-infinity": (Node("Doc", "x", "t", {"a": [{"b": -math.inf}]}), "-inf"),
    "properties-set": (Node("Doc", "x", "t", {"a": {1}}), "set"),
    "properties-bytes": (Node("Doc", "x", "t", {"a": b"raw"}), "b'raw'"),
    "properties-decimal": (Node("Doc", "x", "t", {"a": Decimal("1.5")}), "Decimal"),
    "properties-numpy": (Node("Doc", "x", "t", {"a": np.int64(4)}), "int64"),
    "properties-int-key": (Node("Doc", "x", "t", {1: "a"}), "the key 1"),
    "properties-nested-int-key": (Node("Doc", "x", "t", {"a": [{"b": {2: 3}}]}), "the key 2"),
    "properties-none-key": (Node("Doc", "x", "t", {None: 1}), "the key None"),
    "properties-bool-key": (Node("Doc", "x", "t", {"a": {True: 1}}), "the key True"),
    "properties-circular": (Node("Doc", "x", "t", circular()), "contain themselves"),
    "properties-too-deep": (Node("Doc", "x", "t", nested(5_000)), "200 levels"),
    "properties-surrogate": (Node("Doc", "x", "t", {"a": "\ud800"}), r"'\ud800'"),
    "properties-surrogate-key": (Node("Doc", "x", "t", {"\udc00": 1}), r"'\udc00'"),
    "properties-endless-int": (Node("Doc", "x", "t", {"a": 10**5000}), "4300 digits"),
    "text-and-chunks": (Node("Doc", "x", "t", chunks=["t"]), "'x' has both text and chunks"),
    "chunks-string": (Node("Doc", "x", chunks="text"), "'text'"),
    "chunks-number": (Node("Doc", "x", chunks=5), "5"),
    "chunks-bad-item": (Node("Doc", "x", chunks=["a", 5]), "chunk 1"),
    "chunk-empty": (Node("Doc", "x", chunks=["a", ""]), "x, chunk 1"),
    "chunk-surrogate": (Node("Doc", "x", chunks=["\ud800"]), r"'\ud800'"),
    "chunk-id-empty": (Node("Doc", "x", chunks=[Chunk("a", "")]), "chunk_id must not be empty"),
    "chunk-id-nul": (Node("Doc", "x", chunks=[Chunk("a", "c\0")]), r"'c\x00'"),
    "chunk-id-surrogate": (Node("Doc", "x", chunks=[Chunk("a", "\ud800")]), r"'\ud800'"),
    "chunk-id-number": (Node("Doc", "x", chunks=[Chunk("a", 4)]), "4"),
    "chunk-id-twice": (Node("Doc", "x", chunks=[Chunk("a", "c"), Chunk("b", "c")]), "'c'"),
    "chunk-id-of-another": (Node("Doc", "x", chunks=[Chunk("a", "part-1")]), "'parts'"),
    "chunk-id-of-another-automatic": (Node("Doc", "x", chunks=[Chunk("a", "parts#1")]), "'parts'"),
    "chunk-id-of-one-beside": (Node("Doc", "x", chunks=[Chunk("a", "good#0")]), "'good'"),
    "not-a-node": ({"kind": "Doc", "node_id": "x"}, "ingest takes dicts"),
    "a-string": ("x", "'x'"),
    "none": (None, "NoneType"),
}  # fmt: skip


def test_a_dict_is_named_and_not_its_first_key(live):
    with pytest.raises(InvalidInputError, match=r"got dict: \{'kind': 'Doc'.+ingest takes dicts"):
        live.write({"kind": "Doc", "id": "x"})


@pytest.mark.parametrize(("bad", "names"), BAD_NODES.values(), ids=BAD_NODES)
@pytest.mark.parametrize("first", [True, False], ids=["good-first", "bad-first"])
def test_a_bad_node_is_named_and_nothing_of_the_request_is_stored(live, bad, names, first):
    before = content(live)
    with pytest.raises(InvalidInputError) as caught:
        live.write([GOOD, bad] if first else [bad, GOOD], retire=["live"])
    assert names in str(caught.value)
    assert len(str(caught.value)) < 500
    assert (caught.value.code, caught.value.retryable) == ("invalid_input", False)
    assert content(live) == before


BAD_REQUESTS = {
    "same-id-twice": ({"nodes": [GOOD, GOOD]}, "'good' is in the request twice"),
    "written-and-retired": ({"nodes": [GOOD], "retire": ["live", "good"]}, "'good' is both"),
    "retire-empty": ({"nodes": [GOOD], "retire": [""]}, "must not be empty"),
    "retire-nul": ({"nodes": [GOOD], "retire": "a\0"}, r"'a\x00'"),
    "retire-surrogate": ({"nodes": [GOOD], "retire": "\ud800"}, r"'\ud800'"),
    "retire-number": ({"nodes": [GOOD], "retire": [5]}, "5"),
    "retire-not-iterable": ({"nodes": [GOOD], "retire": 5}, "5"),
    "retire-none": ({"nodes": [GOOD], "retire": None}, "None"),
    "nodes-number": ({"nodes": 5, "retire": ["live"]}, "5"),
    "nodes-none": ({"nodes": None, "retire": ["live"]}, "None"),
    "nodes-string": ({"nodes": "text", "retire": ["live"]}, "'text'"),
    "timeout-negative": ({"nodes": [GOOD], "timeout": -1}, "-1"),
    "timeout-nan": ({"nodes": [GOOD], "timeout": math.nan}, "nan"),
    "timeout-string": ({"nodes": [GOOD], "timeout": "5"}, "'5'"),
}


@pytest.mark.parametrize(("request_", "names"), BAD_REQUESTS.values(), ids=BAD_REQUESTS)
def test_a_bad_request_is_named_and_nothing_of_it_is_stored(live, request_, names):
    before = content(live)
    with pytest.raises(InvalidInputError) as caught:
        live.write(**request_)
    assert names in str(caught.value)
    assert content(live) == before


def test_nodes_that_end_in_an_error_of_their_own_store_nothing_and_the_error_is_the_callers(live):
    def broken():
        yield GOOD
        raise KeyError("the caller's own")

    before = content(live)
    with pytest.raises(KeyError, match="the caller's own"):
        live.write(broken(), retire=["live"])
    assert content(live) == before
    with pytest.raises(ZeroDivisionError):
        live.write(Node("Doc", "x", chunks=(1 / zero for zero in [0])))
    assert content(live) == before


def test_a_request_that_fails_in_the_commit_takes_no_other_request_with_it(live):
    """The taken chunk id is seen on the writer's thread, under the request's own savepoint."""
    before = content(live)
    with pytest.raises(InvalidInputError, match="'part-1' of node 'thief' belongs to node 'parts'"):
        live.write([GOOD, Node("Doc", "thief", chunks=[Chunk("mine", "part-1")])], retire=["live"])
    assert content(live) == before
    receipt = live.write(GOOD)
    assert receipt.cursor == before[0] + 1


# --- patch ----------------------------------------------------------------------------------------

BAD_PATCHES = {
    "none": ("live", None, "None"),
    "list": ("live", [1], "[1]"),
    "string": ("live", "a", "'a'"),
    "nan": ("live", {"a": math.nan}, "nan"),
    "bytes": ("live", {"a": b"raw"}, "b'raw'"),
    "int-key": ("live", {1: 2}, "the key 1"),
    "surrogate": ("live", {"a": "\ud800"}, r"'\ud800'"),
    "circular": ("live", circular(), "contain themselves"),
    "no-such-node": ("nowhere", {"a": 1}, "'nowhere'"),
    "empty-id": ("", {"a": 1}, "must not be empty"),
    "nul-id": ("a\0", {"a": 1}, r"'a\x00'"),
    "number-id": (7, {"a": 1}, "7"),
}


@pytest.mark.parametrize(("node_id", "patch", "names"), BAD_PATCHES.values(), ids=BAD_PATCHES)
def test_a_bad_patch_is_named_and_changes_nothing(live, node_id, patch, names):
    before = content(live)
    with pytest.raises(InvalidInputError) as caught:
        live.patch(node_id, patch)
    assert names in str(caught.value)
    assert content(live) == before


def test_patches_cannot_add_up_to_properties_that_are_too_deep(live):
    live.patch("live", nested(90))
    before = content(live)
    deep: dict = nested(90)
    for _ in range(90):
        deep = {"a": deep}
    with pytest.raises(InvalidInputError, match="200 levels"):
        live.patch("live", {"b": {"a": deep | {"c": nested(60)}}})
    assert content(live) == before


# --- reading and searching ------------------------------------------------------------------------

BAD_SEARCHES = {
    "limit-0": ({"limit": 0}, "limit must be a whole number from 1 to 4096, got 0"),
    "limit-100000": ({"limit": 100_000}, "from 1 to 4096, got 100000"),
    "limit-negative": ({"limit": -1}, "-1"),
    "limit-float": ({"limit": 10.0}, "10.0"),
    "limit-bool": ({"limit": True}, "True"),
    "limit-string": ({"limit": "10"}, "'10'"),
    "limit-none": ({"limit": None}, "None"),
    "limit-nan": ({"limit": math.nan}, "nan"),
    "chunks-per-node-0": ({"chunks_per_node": 0}, "chunks_per_node"),
    "chunks-per-node-5000": ({"chunks_per_node": 5000}, "5000"),
    "chunks-per-node-float": ({"chunks_per_node": 1.5}, "1.5"),
    "kind-number": ({"kind": 5}, "5"),
    "kind-empty-list": ({"kind": []}, "[]"),
    "kind-list-of-numbers": ({"kind": ["Doc", 5]}, "5"),
    "kind-unknown": ({"kind": "Dok"}, "'Dok'"),
    "kind-nul": ({"kind": "Doc\0"}, r"'Doc\x00'"),
    "kind-surrogate": ({"kind": "Doc\ud800"}, r"'\ud800'"),
    "ids-string": ({"ids": "live"}, "'live'"),
    "ids-number": ({"ids": 5}, "5"),
    "ids-of-numbers": ({"ids": [5]}, "5"),
    "ids-nul": ({"ids": ["live\0"]}, r"'live\x00'"),
    "ids-surrogate": ({"ids": ["\ud800"]}, r"'\ud800'"),
    "source-number": ({"source_ref": 5}, "5"),
    "source-nul": ({"source_ref": "a\0"}, r"'a\x00'"),
    "source-surrogate": ({"source_ref": "\ud800"}, r"'\ud800'"),
    "where-unknown-operator": ({"where": {"n": {"like": "a"}}}, "'like'"),
    "after-string": ({"after": "yes"}, "'yes'"),
    "timeout-negative": ({"timeout": -0.5}, "-0.5"),
    "timeout-nan": ({"timeout": math.nan}, "nan"),
    "timeout-string": ({"timeout": "1"}, "'1'"),
}


@pytest.mark.parametrize(("arguments", "names"), BAD_SEARCHES.values(), ids=BAD_SEARCHES)
def test_a_bad_argument_of_a_search_is_named_in_every_mode(live, arguments, names):
    searches = [
        lambda: live.search("text", **arguments),
        lambda: live.search("text", mode="semantic", **arguments),
        lambda: live.semantic_search("text", **arguments),
        lambda: live.raw_vector_search([1.0] * 32, **arguments),
    ]
    if not {"after", "timeout"} & arguments.keys():
        searches.append(lambda: live.text_search("text", **arguments))
    for search in searches:
        with pytest.raises(InvalidInputError) as caught:
            search()
        assert names in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ({"mode": "fuzzy"}, "'fuzzy'"),
        ({"mode": None}, "None"),
        ({"fusion": "sum"}, "'sum'"),
        ({"vector_weight": -0.1}, "-0.1"),
        ({"vector_weight": 1.1}, "1.1"),
        ({"vector_weight": math.nan}, "nan"),
        ({"vector_weight": "half"}, "'half'"),
        ({"vector_weight": True}, "True"),
        ({"vector_weight": None}, "None"),
    ],
    ids=repr,
)
def test_a_bad_mode_or_fusion_is_named(live, arguments, names):
    with pytest.raises(InvalidInputError) as caught:
        live.search("text", **arguments)
    assert names in str(caught.value)


@pytest.mark.parametrize(
    ("vector", "error", "names"),
    [
        ([math.nan] * 32, NonFiniteVectorError, "NaN"),
        ([0.5] * 31 + [math.inf], NonFiniteVectorError, "column 31"),
        ([1e300] * 32, NonFiniteVectorError, "inf"),
        (np.full(32, np.nan, dtype=np.float32), NonFiniteVectorError, "column 0"),
        ([1.0] * 31, DimensionMismatchError, "31"),
        ([1.0] * 33, DimensionMismatchError, "33"),
        ([], DimensionMismatchError, "0"),
        (np.ones((2, 32), dtype=np.float32), InvalidInputError, "2"),
        ([0.0] * 32, InvalidInputError, "zero"),
        ("text", InvalidInputError, "str"),
        (None, InvalidInputError, "NoneType"),
        (5, InvalidInputError, "int"),
        (["a"] * 32, InvalidInputError, "str"),
        ({"a": 1}, InvalidInputError, "dict"),
    ],
    ids=[
        "nan", "infinity", "overflow", "nan-array", "too-short", "too-long", "empty", "two-rows",
        "zero", "string", "none", "number", "strings", "mapping",
    ],
)  # fmt: skip
def test_a_bad_query_vector_is_refused_by_what_is_wrong_with_it(live, vector, error, names):
    with pytest.raises(error) as caught:
        live.raw_vector_search(vector)
    assert names in str(caught.value)
    assert isinstance(caught.value, InvalidInputError)


@pytest.mark.parametrize(
    ("use", "names"),
    [
        (lambda db: db.get(5), "5"),
        (lambda db: db.get(None), "NoneType"),
        (lambda db: db.get("a\0"), r"'a\x00'"),
        (lambda db: db.get("\ud800"), r"'\ud800'"),
        (lambda db: db.get_many("live"), "'live'"),
        (lambda db: db.get_many(5), "5"),
        (lambda db: db.get_many(["live", 5]), "5"),
        (lambda db: db.get_many([["live"]]), "['live']"),
        (lambda db: db.count(kind=5), "5"),
        (lambda db: db.count(kind=["Doc"]), "['Doc']"),
        (lambda db: db.count(kind="Doc\0"), r"'Doc\x00'"),
        (lambda db: db.nodes(kind=5), "5"),
        (lambda db: db.nodes(where=5), "5"),
        (lambda db: db.wait("receipt"), "'receipt'"),
        (lambda db: db.wait(None), "None"),
        (lambda db: db.wait(db.write(GOOD), timeout=-1), "-1"),
        (lambda db: db.wait(db.write(GOOD), timeout=None), "None"),
    ],
)
def test_a_bad_argument_of_a_reader_is_named_at_the_call(live, use, names):
    with pytest.raises(InvalidInputError) as caught:
        use(live)
    assert names in str(caught.value)


def test_mappings_and_tuples_are_json_and_come_back_as_objects_and_lists(live):
    given = MappingProxyType({"a": (1, 2.5, None, True), "b": {"c": "Größe \0 🎉"}, "": [[]]})
    live.write(Node("Doc", "x", "t", given))
    found = live.get("x")
    assert found is not None
    assert found.properties == {"a": [1, 2.5, None, True], "b": {"c": "Größe \0 🎉"}, "": [[]]}
