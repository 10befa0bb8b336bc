"""Filters against a plain-Python oracle: every operator, every nesting, any key that JSON has."""

from __future__ import annotations

import itertools
import math
import operator

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import fathomdb
from fathomdb import InvalidInputError, Node
from fathomdb.search import filters
from fathomdb.testing import temporary

MISSING = object()
ORDERS = {"gt": operator.gt, "gte": operator.ge, "lt": operator.lt, "lte": operator.le}

# --- the oracle -----------------------------------------------------------------------------------


def is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def equal(found, wanted):
    if found is MISSING or type(wanted) is not type(found):
        return is_number(found) and is_number(wanted) and found == wanted
    return found == wanted


def holds(name, found, operand):
    if name == "eq":
        return equal(found, operand)
    if name == "ne":
        return not equal(found, operand)
    if name == "in":
        return any(equal(found, item) for item in operand)
    if name == "exists":
        return (found is not MISSING) is operand
    comparable = (
        isinstance(found, str)
        if isinstance(operand, str)
        else (is_number(found) and is_number(operand))
    )
    return comparable and ORDERS[name](found, operand)


def lookup(properties, key):
    found = properties
    for name in key if isinstance(key, tuple) else (key,):
        if not isinstance(found, dict) or name not in found:
            return MISSING
        found = found[name]
    return found


def passes(where, properties):
    for key, wanted in where.items():
        if key == "any":
            ok = any(passes(item, properties) for item in wanted)
        elif key == "not":
            ok = not passes(wanted, properties)
        else:
            tests = wanted if isinstance(wanted, dict) else {"eq": wanted}
            found = lookup(properties, key)
            ok = all(holds(name, found, operand) for name, operand in tests.items())
        if not ok:
            return False
    return True


# --- what is generated ----------------------------------------------------------------------------

KEYS = [
    "a",
    "b",
    "",
    "a.b",
    'a"b',
    "a\\b",
    "$",
    "[0]",
    "0",
    "any",
    "not",
    "ключ",
    "🎉",
    "a\nb",
]
texts = st.sampled_from(["", "a", "A", "b", "é", "🎉", "a\0b", "1", "true", "null"]) | st.text(
    st.characters(exclude_categories=["Cs"]), max_size=4
)
numbers = (
    st.integers(-3, 3)
    | st.sampled_from(
        [0.0, -0.0, 1.0, 0.1, 1.5, 2**53, 2**53 + 1, float(2**53), -(2**63), 2**63 - 1]
    )
    | st.floats(allow_nan=False, allow_infinity=False)
)
scalars = st.none() | st.booleans() | numbers | texts
keys = st.sampled_from(KEYS)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=4,
)
properties = st.none() | st.dictionaries(keys, values, max_size=4)
operators = st.one_of(
    st.tuples(st.sampled_from(["eq", "ne"]), scalars),
    st.tuples(st.sampled_from(sorted(ORDERS)), numbers | texts),
    st.tuples(st.just("in"), st.lists(scalars, max_size=3)),
    st.tuples(st.just("exists"), st.booleans()),
)
conditions = scalars | st.lists(operators, min_size=1, max_size=2).map(dict)
property_keys = keys.filter(lambda key: key not in {"any", "not"}) | st.lists(
    keys, min_size=1, max_size=2
).map(tuple)
leaves = st.dictionaries(property_keys, conditions, max_size=3)
wheres = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(lambda items: {"any": items}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda item: {"not": item}, inner),
        st.builds(lambda a, b: {**a, "not": b}, leaves, inner),
    ),
    max_leaves=5,
)

numbering = itertools.count()


@pytest.fixture(scope="module")
def db():
    with temporary(embedder=False, background=False, durability="normal") as engine:
        yield engine


@settings(deadline=None, max_examples=150)
@given(st.lists(properties, min_size=1, max_size=6), wheres)
@example([{"a": 1}, {"a": True}, {"a": None}, {}, None, {"a": "1"}], {"a": 1})
@example([{"a": 1}, {"a": True}, {"a": None}, {}, None, {"a": 0}], {"a": True})
@example([{"a": 1}, {"a": None}, {}, None], {"a": None})
@example([{"a": 1}, {"a": None}, {}, None], {"a": {"ne": None}})
@example([{"a": 1}, {"a": 2}, {"a": 3}], {"any": [{"a": 1}, {"a": 2}]})
@example([{"a": 1}, {"a": 2}, {"a": 3}], {"not": {"any": [{"a": 1}, {"a": 2}]}})
@example([{"a": {"a": 1}}, {"a.a": 1}, {"a": [1]}], {("a", "a"): 1})
@example([{"": 1}, {"": {"": 1}}], {("", ""): {"exists": True}})
@example([{"any": 1, "not": 2}], {("any",): 1, ("not",): 2})
@example([{"a": "a\0b"}, {"a": "a"}], {"a": "a\0b"})
@example([{"a": "a\0b"}, {"a": "a"}], {"a": {"in": ["a\0b"]}})
@example([{"a": 2**53 + 1}, {"a": 2**53}], {"a": {"in": [2**53 + 1]}})
def test_a_filter_means_what_it_says_for_nodes_count_and_search(db, stored, where):
    kind = f"K{next(numbering)}"
    db.write(Node(kind, f"{kind}-{n}", "word", item) for n, item in enumerate(stored))
    expected = [f"{kind}-{n}" for n, item in enumerate(stored) if passes(where, item or {})]

    assert [node.node_id for node in db.nodes(kind, where)] == expected
    assert db.count(kind, where) == len(expected)
    found = db.text_search("word", kind=kind, where=where, limit=100)
    assert sorted(hit.node_id for hit in found) == sorted(expected)


def test_any_never_brings_back_what_another_condition_excludes(db):
    """An OR that is not in parentheses takes the rest of the statement apart."""
    db.write([Node("Or", "or-1", "alpha", {"n": 1}), Node("Or", "or-2", "beta", {"n": 2})])
    db.write(Node("Other", "or-3", "alpha", {"n": 2}))
    db.write(retire="or-1")
    either = {"any": [{"n": 1}, {"n": 2}]}

    assert [node.node_id for node in db.nodes("Or", either)] == ["or-2"]
    assert {node.node_id for node in db.nodes(where=either)} >= {"or-2", "or-3"}
    assert "or-1" not in {node.node_id for node in db.nodes(where=either)}
    assert [hit.node_id for hit in db.text_search("alpha", where=either)] == ["or-3"]


@pytest.mark.parametrize(
    "where",
    [
        {"n": {"in": [*range(30_000), "7"]}},
        {"s": {"in": [str(number) for number in range(30_000)]}},
        {"any": [{"n": number} for number in range(2_000)]},
        {f"missing-{number}": {"exists": False} for number in range(2_000)},
    ],
    ids=["in-numbers", "in-strings", "any", "keys"],
)
def test_a_long_filter_works(db, where):
    kind = f"Long{next(numbering)}"
    db.write(Node(kind, f"{kind}-{n}", "word", {"n": n, "s": str(n)}) for n in range(5))
    assert db.count(kind, where) == 5
    assert len(db.text_search("word", kind=kind, where=where)) == 5


@pytest.mark.parametrize(
    ("where", "names"),
    [
        ({"year": {"$gt": 2020}}, "'$gt'"),
        ({"year": {"between": [1, 2]}}, "'between'"),
        ({"year": {}}, "'year'"),
        ({"year": {"gt": None}}, "None"),
        ({"year": {"gt": True}}, "True"),
        ({"year": {"lt": [1]}}, "[1]"),
        ({"year": {"in": "2020"}}, "'2020'"),
        ({"year": {"in": 2020}}, "2020"),
        ({"year": {"in": [[2020]]}}, "[2020]"),
        ({"year": {"in": {"a": 1}}}, "'a'"),
        ({"year": {"exists": 1}}, "1"),
        ({"year": [2020]}, "[2020]"),
        ({"year": math.nan}, "nan"),
        ({"year": {"gte": math.inf}}, "inf"),
        ({"year": 10**400}, "1329 bits"),
        ({"year": {"in": [10**400]}}, "1329 bits"),
        ({"year": "a\ud800b"}, "'\\ud800'"),
        ({"year": {"in": ["\udfff"]}}, "'\\udfff'"),
        ({"a\ud800": 1}, "'\\ud800'"),
        ({1: 2}, "1"),
        ({(): 2}, "()"),
        ({("a", 1): 2}, "('a', 1)"),
        ({None: 2}, "None"),
        ({"any": []}, "[]"),
        ({"any": {"a": 1}}, "'a'"),
        ({"any": ["a"]}, "'a'"),
        ({"not": [{"a": 1}]}, "[{'a': 1}]"),
        ([("a", 1)], "[('a', 1)]"),
        ("a = 1", "'a = 1'"),
    ],
    ids=repr,
)
def test_a_filter_that_cannot_be_is_refused_and_never_ignored(db, where, names):
    for use in (
        lambda: db.count(where=where),
        lambda: list(db.nodes(where=where)),
        lambda: db.search("word", where=where),
        lambda: db.semantic_search("word", where=where),
        lambda: db.raw_vector_search([1.0], where=where),
    ):
        with pytest.raises(InvalidInputError) as caught:
            use()
        assert names in str(caught.value)
        assert caught.value.code == "invalid_input"


def test_a_filter_that_is_too_deep_or_too_long_is_refused_by_its_own_name(db):
    deep = {"a": 1}
    for _ in range(5_000):
        deep = {"not": deep}
    with pytest.raises(InvalidInputError, match="64 levels"):
        db.count(where=deep)
    itself: dict = {}
    itself["not"] = itself
    with pytest.raises(InvalidInputError, match="64 levels"):
        db.count(where=itself)
    with pytest.raises(InvalidInputError, match="use 'in'"):
        db.count(where={"any": [{"n": number} for number in range(filters.MAX_COMPARISONS + 1)]})
    with pytest.raises(InvalidInputError, match="use 'in'"):
        db.count(where={"any": [{"n": None}] * (filters.MAX_COMPARISONS + 1)})
    assert db.count(where={"any": [{"n": None}] * filters.MAX_COMPARISONS}) >= 0


def test_comparisons_are_counted_whatever_a_property_is_called(db):
    assert db.count(where={"json_type(" * 10: {"ne": 1}}) >= 0
    assert db.count(where={"any": [{"json_type(": "x"}] * filters.MAX_COMPARISONS}) == 0
    with pytest.raises(InvalidInputError, match="compares 5,001 times"):
        db.count(where={"not": {"any": [{"json_type(": "x"}] * (filters.MAX_COMPARISONS + 1)}})


def test_the_deepest_filter_allowed_works(db):
    kind = f"Deep{next(numbering)}"
    db.write(Node(kind, kind, "word", {"n": 1}))
    where = {"n": 1}
    for level in range(filters.MAX_DEPTH - 1):
        where = {"not": where} if level % 2 else {"any": [where, {"n": 2}]}
    flips = sum(level % 2 for level in range(filters.MAX_DEPTH - 1))
    assert db.count(kind, where) == (1 if flips % 2 == 0 else 0)
    assert len(db.text_search("word", kind=kind, where=where)) == db.count(kind, where)


def test_ids_source_and_kind_narrow_a_search_and_are_anded(db):
    kind = f"Narrow{next(numbering)}"
    db.write(
        Node(kind, f"{kind}-{n}", "word", {"n": n}, source_ref=f"file-{n % 2}") for n in range(6)
    )

    def ids(**narrowed):
        return sorted(hit.node_id for hit in db.text_search("word", kind=kind, **narrowed))

    assert ids(ids=[f"{kind}-1", f"{kind}-4", "unknown"]) == [f"{kind}-1", f"{kind}-4"]
    assert ids(ids=[]) == []
    assert ids(source_ref="file-1") == [f"{kind}-{n}" for n in (1, 3, 5)]
    assert ids(source_ref="file-1", where={"n": {"gte": 3}}) == [f"{kind}-{n}" for n in (3, 5)]
    assert ids(source_ref="file-1", ids=[f"{kind}-2", f"{kind}-3"]) == [f"{kind}-3"]
    assert [
        hit.node_id for hit in db.text_search("word", kind=[kind, kind], ids=(f"{kind}-0",))
    ] == [f"{kind}-0"]


def test_the_vector_arm_applies_the_same_filters_before_its_cut():
    where = [
        {"lang": "en"},
        {"any": [{"lang": "de"}, {"n": {"lt": 5}}]},
        {"not": {"any": [{"lang": "de"}, {"n": {"lt": 5}}]}},
        {("meta", "a.b"): {"exists": True}},
        {"n": {"in": [3, 30, 300]}},
        {"n": {"gte": 10, "lt": 20}, "lang": {"ne": "en"}},
    ]
    with temporary(background=False) as engine:
        engine.write(
            Node(
                "Doc",
                f"n{n}",
                f"text number {n}",
                {"n": n, "lang": ("en", "de", "fr")[n % 3]}
                | ({"meta": {"a.b": 1}} if n % 7 == 0 else {}),
            )
            for n in range(400)
        )
        engine.admin.drain_vector_projection()
        for item in where:
            expected = {node.node_id for node in engine.nodes(where=item)}
            assert expected
            found = engine.semantic_search("text number 7", where=item, limit=400)
            assert {hit.node_id for hit in found} == expected
            few = engine.semantic_search("text number 7", where=item, limit=3)
            assert len(few) == min(3, len(expected))
            assert [hit.node_id for hit in few] == [hit.node_id for hit in found[:3]]


def test_an_unknown_kind_is_refused_by_searches_with_the_kinds_that_there_are():
    with temporary(background=False) as engine:
        with pytest.raises(
            InvalidInputError, match="unknown kind 'Doc'; kinds of this file: none yet"
        ):
            engine.search("word", kind="Doc")
        engine.write([Node("Doc", "a", "word"), Node("Memo", "b", "word")])
        for use in (engine.search, engine.text_search, engine.semantic_search):
            with pytest.raises(InvalidInputError, match=r"unknown kind 'Dok'.*Doc, Memo") as caught:
                use("word", kind=["Doc", "Dok"])
            assert isinstance(caught.value, fathomdb.FathomError)
        assert engine.count("Dok") == 0
        assert list(engine.nodes("Dok")) == []


@pytest.mark.parametrize("properties", [{"a\0b": 1}, {"in": [{"a\0": 1}]}])
def test_a_name_with_a_nul_is_refused_since_sqlite_would_take_it_for_a_shorter_one(db, properties):
    refusals = [
        lambda: db.write(Node("Nul", "nul", "word", properties)),
        lambda: db.ingest([{"id": "nul", "text": "word", **properties}], kind="Nul"),
    ]
    for refused in refusals:
        with pytest.raises(InvalidInputError, match="NUL"):
            refused()
    assert db.count("Nul") == 0
    for where in ({"a\0b": 1}, {("in", "a\0"): 1}):
        with pytest.raises(InvalidInputError, match="NUL"):
            db.count(where=where)
