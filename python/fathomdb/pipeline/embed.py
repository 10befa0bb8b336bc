"""Stage 4, embed: texts to vectors, and who is to blame when an embedder goes wrong.

An outage is never charged to rows. Any other exception splits the batch until the culprits stand
alone. An outage may look like any other exception and begin at any call, so a culprit is blamed
only once a later call has passed; where none does, a fixed probe text decides which of the two it was.
"""

from __future__ import annotations

import itertools
from collections.abc import Container, Generator, Sequence
from dataclasses import dataclass, field

from fathomdb._native import PackedVectors
from fathomdb.embedders.calls import cut_calls
from fathomdb.pipeline.outage import is_outage
from fathomdb.redact import redact

PROBE_TEXT = "The quick brown fox jumps over the lazy dog."
"""What every model of text can embed; never a row, so that no row decides about an outage."""

_MOST_READ = 4096
"""Characters of a message that are looked at, of which 500 are kept: some quote a whole batch."""

EmbedSteps = Generator[Sequence[str], PackedVectors, "EmbedOutcome"]


class EmbedTimeoutError(Exception):
    """A call took longer than ``embed_timeout_seconds``; the text is suspected, not the network.

    ``stuck`` says that the embedder cannot be asked about the halves before that call returns.
    """

    def __init__(self, message: str, *, stuck: bool = False) -> None:
        super().__init__(message)
        self.stuck = stuck


@dataclass(slots=True)
class EmbedOutcome:
    """What came of the texts of one claim, by their place in it.

    ``vectors`` maps a place to its packed batch and row; ``errors`` a place to what was raised for
    it alone; ``suspects`` a place to what was raised for it among others, where the call could not
    be split. Places in none of them were not tried because of the ``outage``. ``reused`` are places
    whose vector no call was made for.
    """

    vectors: dict[int, tuple[PackedVectors, int]] = field(default_factory=dict)
    errors: dict[int, str] = field(default_factory=dict)
    suspects: dict[int, str] = field(default_factory=dict)
    outage: Exception | None = None
    reused: set[int] = field(default_factory=set)
    missing: set[int] = field(default_factory=set)
    """Places of texts that came without a vector, where only ready ones are taken."""

    def take_over(self, place: int, other: EmbedOutcome, there: int) -> None:
        """Has a place come to what another claim's place of the same text came to."""
        self.reused.add(place)
        if there in other.vectors:
            self.vectors[place] = other.vectors[there]
        elif there in other.errors:
            self.errors[place] = other.errors[there]
        elif there in other.suspects:
            self.suspects[place] = other.suspects[there]
        elif there in other.missing:
            self.missing.add(place)


def embed(
    texts: Sequence[str],
    content_hashes: Sequence[bytes],
    call_tokens: int | None = None,
    skip: Container[int] = (),
) -> EmbedSteps:
    """Yields the texts of each call to make; send it the vectors, or throw what the call raised.

    Identical texts are embedded once, those in a place to ``skip`` not at all. A call has ``call_tokens`` estimated tokens at most, or one
    text. Returns (as the generator's value) an EmbedOutcome.
    """
    # The first place of each text, and beside it the others, which hardly ever are: a list for each
    # text would be most of what the garbage collector is called for in a drain.
    first_of: dict[bytes, int] = {}
    twins: dict[int, list[int]] = {}
    for place, content_hash in enumerate(content_hashes):
        if place in skip:
            continue
        first = first_of.setdefault(content_hash, place)
        if first != place:
            twins.setdefault(first, []).append(place)
    firsts = [*first_of.values()]
    outcome = EmbedOutcome()
    distinct = [texts[place] for place in firsts]
    # Who stood alone when it failed, and no call has passed since: was it the text, or an outage?
    doubtful: dict[int, str] = {}
    doubts, most_doubts = 0, 1
    stack = cut_calls(distinct, tokens=call_tokens)[::-1]
    while stack:
        start, stop = stack.pop()
        try:
            packed = yield distinct[start:stop]
        except Exception as error:
            if is_outage(error):
                outcome.outage = error
                return outcome
            alone = stop - start == 1
            of_call = firsts[start:stop]
            of_call += itertools.chain.from_iterable(twins.get(first, ()) for first in of_call)
            blamed = dict.fromkeys(of_call, describe(error))
            if isinstance(error, EmbedTimeoutError) and error.stuck:
                (outcome.errors if alone else outcome.suspects).update(blamed)
                outcome.outage = error
                return outcome
            if not alone:
                middle = (start + stop) // 2
                stack += [(middle, stop), (start, middle)]
                continue
            doubtful |= blamed
            doubts += 1
            if doubts < most_doubts:
                continue
            # Of ever more at once: where every text is bad, the probe is not asked for each.
            most_doubts *= 2
            outcome.outage = yield from _probe()
            if outcome.outage is not None:
                return outcome
        else:
            most_doubts = max(most_doubts, 2)
            for n, place in enumerate(firsts[start:stop]):
                outcome.vectors[place] = (packed, n)
                if place in twins:
                    outcome.vectors |= dict.fromkeys(twins[place], (packed, n))
        outcome.errors |= doubtful
        doubtful, doubts = {}, 0
    if doubtful:
        outcome.outage = yield from _probe()
        if outcome.outage is None:
            outcome.errors |= doubtful
    return outcome


def miss(count: int, skip: Container[int] = ()) -> EmbedSteps:
    """Makes no call: all places but those to skip are missing a vector."""
    yield from ()
    return EmbedOutcome(missing={place for place in range(count) if place not in skip})


def _probe() -> Generator[Sequence[str], PackedVectors, Exception | None]:
    try:
        yield [PROBE_TEXT]
    except Exception as error:
        return error
    return None


def probe() -> EmbedSteps:
    """One call with the probe text alone: is an embedder that was away back?"""
    return EmbedOutcome(outage=(yield from _probe()))


def type_name(error: BaseException) -> str:
    """The name of an exception's class, also where that class will not tell it."""
    try:
        return f"{type(error).__name__}"
    except BaseException:  # a metaclass may raise anything, and it would end an engine's thread
        return "an exception whose class has no name"


def describe(error: BaseException) -> str:
    """An exception in one line, as it is kept with a row: without credentials."""
    try:
        said = redact(" ".join(str(error)[:_MOST_READ].split()))
    except BaseException:
        said = ""  # an error that cannot say what it is about still has a type
    name = type_name(error)
    text = f"{name}: {said}" if said else name
    text = text.encode("utf-8", "replace").decode()  # a lone surrogate could not be stored
    return text if len(text) <= 500 else text[:497] + "..."
