"""What a child does: drawn from a seed, said as JSON, done to an engine and to a model alike.

Every thread has nodes and sources of its own, so that what the threads do commutes: whatever order
they commit in, the file must come to the same.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import fathomdb
from fathomdb import Chunk, Node
from fathomdb.embedders.protocol import EmbedderLimits
from fathomdb.testing import DeterministicEmbedder

if TYPE_CHECKING:
    from collections.abc import Callable

    from fathomdb.records import ErasureReceipt
    from fathomdb.store.connection import Durability
    from model import Erased, Expected, Model

CHUNK_CHARS = 80
NODES = 12
"""Ids of each thread: few, so that most writes are rewrites."""
KINDS = ("Document", "Note", 'Größe "; DROP')
SHARED_TEXTS = 6
"""Numbers below this are drawn by every thread, so that texts come back and are elsewhere too."""
WORDS = ("datastore", "vector", "queue", "naïve", "数据库", "crash", "🎉", "fence", "recover", "İ")
# A few rows a call, so that a drain is many claims and many commits.
LIMITS = EmbedderLimits(items=6)
EMBEDDERS = tuple(
    DeterministicEmbedder(dimension, seed=seed, limits=LIMITS)
    for seed, dimension in enumerate((8, 8, 12))
)


@dataclass(frozen=True, slots=True)
class Operation:
    name: str
    arguments: dict[str, Any] = field(default_factory=dict)

    @property
    def canonical(self) -> bool:
        """Whether it changes what the model knows."""
        return self.name in _MODELLED


def text_of(number: int) -> str:
    """The text of a number; ``mark_of(number)`` is in every one of its lines, and in no other."""
    draw = random.Random(number)
    lines = draw.randrange(1, 5)
    return "\n\n".join(
        " ".join([mark_of(number), *draw.choices(WORDS, k=draw.randrange(1, 14))])
        for _ in range(lines)
    )


def mark_of(number: int) -> str:
    return f"mark{number:09d}"


def draw(rng: random.Random, thread: int, favourite: str | None) -> Operation:
    """The next operation of a thread; only thread 0 configures, and has a favourite."""
    weights = dict(_WEIGHTS if thread == 0 else _WEIGHTS_OF_OTHERS)
    if thread == 0 and favourite is not None:
        weights[favourite] = sum(weights.values())
    (name,) = rng.choices([*weights], [*weights.values()])
    return Operation(name, _ARGUMENTS[name](rng, thread))


def _node_id(rng: random.Random, thread: int) -> str:
    return f"t{thread}-{rng.randrange(NODES)}"


def _draw_write(rng: random.Random, thread: int) -> dict[str, Any]:
    ids = rng.sample(range(NODES), rng.choice((1, 1, 1, 2, 5, 9)))
    nodes = []
    for n in ids:
        # Often a kind of its own, a text that comes back, and now and then none at all.
        kind = KINDS[n % len(KINDS)] if rng.random() < 0.8 else rng.choice(KINDS)
        shared = rng.random() < 0.3
        number = rng.randrange(SHARED_TEXTS, 10**9)
        number = rng.randrange(SHARED_TEXTS) if shared else number
        nodes.append(
            {
                "node_id": f"t{thread}-{n}",
                "kind": kind,
                "text": None if rng.random() < 0.05 else number,
                "properties": rng.choice((None, {}, {"n": rng.randrange(3)}, {"a": {"b": [1]}})),
                "source_ref": rng.choice((None, f"t{thread}/a", f"t{thread}/b")),
                "cut": rng.random() < 0.15,
                # Now and then the chunk id of another node: refused once half of it is stored.
                "steals": _node_id(rng, thread) if rng.random() < 0.03 else None,
            }
        )
    others = [n for n in range(NODES) if n not in ids]
    retire = [f"t{thread}-{rng.choice(others)}"] if rng.random() < 0.15 else []
    return {"nodes": nodes, "retire": retire}


_ARGUMENTS: dict[str, Callable[[random.Random, int], dict[str, Any]]] = {
    "write": _draw_write,
    "retire": lambda rng, thread: {"retire": [_node_id(rng, thread) for _ in range(2)]},
    "patch": lambda rng, thread: {
        "node_id": _node_id(rng, thread),
        "properties": rng.choice(({"n": None}, {"n": rng.randrange(3)}, {"a": {"c": "d"}}, {})),
    },
    "erase": lambda rng, thread: {"node_ids": [_node_id(rng, thread)]},
    "erase_source": lambda rng, thread: {"source_ref": f"t{thread}/{rng.choice('ab')}"},
    "drain": lambda rng, _: {"timeout": rng.choice((0, 5))},
    "requeue_failed": lambda *_: {},
    "configure_vec": lambda rng, _: {"kind": rng.choice(KINDS)},
    "disable_vec": lambda rng, _: {"kind": rng.choice(KINDS)},
    "configure_embedding": lambda rng, _: {
        "model": rng.randrange(len(EMBEDDERS)),
        "keep_previous": rng.random() < 0.7,
    },
    "prune_profiles": lambda *_: {},
    "configure_fts": lambda rng, _: {"tokenizer": rng.choice(("unicode61", "porter unicode61"))},
    "rebuild": lambda rng, _: {"kind": rng.choice(KINDS), "target": rng.choice(("vec", "fts"))},
    "export": lambda rng, _: {"number": rng.randrange(10**9)},
}
_WEIGHTS_OF_OTHERS = {
    "write": 70,
    "retire": 8,
    "patch": 12,
    "erase": 4,
    "erase_source": 1,
    "drain": 6,
}
_WEIGHTS = {
    **_WEIGHTS_OF_OTHERS,
    "write": 40,
    "requeue_failed": 1,
    "configure_vec": 8,
    "disable_vec": 4,
    "configure_embedding": 3,
    "prune_profiles": 1,
    "configure_fts": 2,
    "rebuild": 8,
    "export": 4,
}
_MODELLED = {
    *("write", "retire", "patch", "erase", "erase_source"),
    *("configure_vec", "disable_vec", "configure_embedding"),
}


def _nodes(arguments: dict[str, Any]) -> list[Node]:
    made = []
    for given in arguments.get("nodes", ()):
        text = None if given["text"] is None else text_of(given["text"])
        same = {name: given[name] for name in ("kind", "node_id", "properties", "source_ref")}
        if text is not None and given["steals"] is not None:
            made.append(Node(**same, chunks=[Chunk(text, f"{given['steals']}#0")]))
        elif text is not None and given["cut"]:
            chunks = [
                Chunk(line, f"{given['node_id']}/{n}" if n else None)
                for n, line in enumerate(text.split("\n\n"))
            ]
            made.append(Node(**same, chunks=chunks))
        else:
            made.append(Node(**same, text=text))
    return made


def perform(db: fathomdb.Engine, operation: Operation, exports: str) -> dict[str, Any]:
    """Does it to an engine; returns what of its receipt the model can say too.

    Raises:
        FathomError: The engine refused it.
    """
    arguments, admin = operation.arguments, db.admin
    match operation.name:
        case "write" | "retire":
            receipt = db.write(_nodes(arguments), retire=arguments["retire"])
            return {
                "cursor": receipt.cursor,
                "written": receipt.written,
                "unchanged": receipt.unchanged,
                "retired": receipt.retired,
                "chunks": receipt.chunks,
                "chunk_ids": receipt.chunk_ids,
            }
        case "patch":
            return {"cursor": db.patch(arguments["node_id"], arguments["properties"]).cursor}
        case "erase":
            return _counts(admin.erase(arguments["node_ids"]))
        case "erase_source":
            return _counts(admin.erase_source(arguments["source_ref"]))
        case "drain":
            admin.drain_vector_projection(timeout=arguments["timeout"])
        case "requeue_failed":
            admin.requeue_failed()
        case "configure_vec":
            admin.configure_vec(arguments["kind"])
        case "disable_vec":
            admin.disable_vec(arguments["kind"])
        case "configure_embedding":
            admin.configure_embedding(
                EMBEDDERS[arguments["model"]],
                acknowledge_rebuild_impact=True,
                keep_previous=arguments["keep_previous"],
            )
        case "prune_profiles":
            admin.prune_profiles()
        case "configure_fts":
            admin.configure_fts(arguments["tokenizer"])
        case "rebuild":
            admin.rebuild(arguments["kind"], arguments["target"])
        case "export":
            admin.safe_export(f"{exports}/{arguments['number']}.db")
    return {}


def _counts(receipt: ErasureReceipt) -> dict[str, int]:
    names = ("cursor", "nodes", "versions", "chunks")
    return {name: getattr(receipt, name) for name in names}


def apply(model: Model, operation: Operation) -> Expected | Erased | None:
    """Does it to a model; returns what a receipt must say.

    Raises:
        RefusedError: The engine must refuse it.
    """
    arguments = operation.arguments
    match operation.name:
        case "write" | "retire":
            return model.write(_nodes(arguments), arguments["retire"])
        case "patch":
            model.patch(arguments["node_id"], arguments["properties"])
        case "erase":
            return model.erase(arguments["node_ids"])
        case "erase_source":
            return model.erase_source(arguments["source_ref"])
        case "configure_vec":
            model.configure_vec(arguments["kind"])
        case "disable_vec":
            model.disable_vec(arguments["kind"])
        case "configure_embedding":
            model.configure_embedding(EMBEDDERS[arguments["model"]])
    return None


def open_engine(path: str, *, background: bool, durability: Durability = "normal"):
    """The campaign's file, whatever model is active in it.

    Without a loss of power ``normal`` keeps as much as ``full``.
    """
    return fathomdb.open(
        path,
        embedder=EMBEDDERS,
        background=background,
        durability=durability,
        config=fathomdb.EngineConfig(chunk_chars=CHUNK_CHARS),
    )
