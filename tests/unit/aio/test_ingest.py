"""Records of async iterables are ingested as those of blocking ones, a few slices in memory."""

from __future__ import annotations

import asyncio
import threading

import pytest

import fathomdb
from fathomdb import Node
from fathomdb.aio import SLICE_RECORDS

RECORDS = [{"id": f"n{number % 150}", "text": f"text {number}"} for number in range(200)]


async def as_they_come(records):
    for record in records:
        await asyncio.sleep(0)
        yield record


@pytest.mark.parametrize("count", [0, 1, SLICE_RECORDS, SLICE_RECORDS + 1, 200])
def test_an_async_iterable_is_ingested_as_a_list_is(opening, run, count):
    async def main():
        async with opening() as db:
            records = RECORDS[:count]
            found = await db.ingest(as_they_come(records), kind="Async", batch_size=32)
            wanted = await db.ingest(records, kind="Blocking", batch_size=32, id=None)
            assert (found.records, found.chunks) == (wanted.records, wanted.chunks)
            assert await db.count("Async") == len({record["id"] for record in records})
            again = await db.ingest(as_they_come(records), kind="Async", batch_size=1000)
            assert again.written <= count // 4  # the later ones of the same id

    run(main())


def test_records_are_passed_by_name_too(opening, run):
    async def main():
        async with opening() as db:
            for number, records in enumerate((RECORDS, as_they_come(RECORDS))):
                report = await db.ingest(kind=f"Kind{number}", records=records)
                assert report.records == len(RECORDS)

    run(main())


def test_bad_records_are_collected_or_raised_with_their_numbers(opening, run):
    records = [*RECORDS[:70], {"id": "bad", "text": 3}, *RECORDS[70:150]]

    async def main():
        async with opening() as db:
            report = await db.ingest(as_they_come(records), kind="Note", on_error="collect")
            assert [error.record_number for error in report.errors] == [71]
            with pytest.raises(fathomdb.InvalidInputError, match="record 71"):
                await db.ingest(as_they_come(records), kind="Note")
            with pytest.raises(fathomdb.InvalidInputError, match="a record must be a mapping"):
                await db.ingest(as_they_come([3]), kind="Note")
            with pytest.raises(fathomdb.InvalidInputError, match="batch_size"):
                await db.ingest(as_they_come(records), kind="Note", batch_size=0)
            assert await db.count() == 150

    run(main())


def test_what_the_iterable_raises_is_raised_and_nothing_is_pruned(opening, run):
    class SourceGoneError(Exception):
        pass

    async def breaks():
        for record in RECORDS[:100]:
            yield record
        raise SourceGoneError

    async def main():
        async with opening() as db:
            await db.ingest([{"id": "old", "text": "old"}], kind="Note", prune_source="feed")
            with pytest.raises(SourceGoneError):
                await db.ingest(breaks(), kind="Note", prune_source="feed", batch_size=10)
            assert await db.count() == 101
            report = await db.ingest(as_they_come(RECORDS[:5]), kind="Note", prune_source="feed")
            assert report.retired == 96

    run(main())


def test_an_ingest_that_fails_lets_go_of_its_records_at_once(opening, run):
    ended = []

    async def never_ends():
        try:
            for number in range(2 * SLICE_RECORDS):
                yield {"id": f"n{number}", "text": 3}
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    async def main():
        async with opening() as db:
            with pytest.raises(fathomdb.InvalidInputError, match="record 1"):
                await db.ingest(never_ends(), kind="Note")
            assert ended == [True]

    run(main())


def test_only_a_few_slices_are_read_ahead_of_what_is_written(opening, run):
    read = 0
    entered, gate = threading.Event(), threading.Event()

    async def records():
        nonlocal read
        for number in range(2000):
            read += 1
            yield Node("Note", f"n{number}")

    def progress(_):
        entered.set()
        assert gate.wait(60)

    async def main():
        async with opening() as db:
            ingesting = asyncio.create_task(db.ingest(records(), batch_size=10, progress=progress))
            assert await asyncio.to_thread(entered.wait, 60)
            for _ in range(100):
                await asyncio.sleep(0)
            assert read <= 4 * SLICE_RECORDS
            gate.set()
            assert (await ingesting).written == read == 2000

    run(main())


def test_records_may_be_made_with_the_engine_that_ingests_them(opening, run):
    async def main():
        async with opening(threads=1) as db:
            await db.write([Node("Note", f"n{number}", f"text {number}") for number in range(70)])

            async def copies():
                async for record in db.nodes("Note"):
                    found = await db.text_search(record.text.split()[1], limit=1)
                    yield {"id": f"copy/{record.node_id}", "text": found[0].text}

            assert (await db.ingest(copies(), kind="Copy")).written == 70
            assert (await db.get("copy/n69")).text == "text 69"

    run(main())


def test_an_async_iterator_is_read_from_where_it_stands(opening, run):
    async def main():
        async with opening() as db:
            records = as_they_come(RECORDS[:10])
            assert (await anext(records))["id"] == "n0"
            assert (await db.ingest(records, kind="Note")).written == 9

    run(main())


def test_paths_and_blocking_iterables_are_taken_as_before(opening, run, tmp_path):
    (tmp_path / "a.jsonl").write_text('{"id": "a", "text": "from a file"}\n')

    async def main():
        async with opening() as db:
            assert (await db.ingest(str(tmp_path / "a.jsonl"), kind="Note")).written == 1
            assert (await db.ingest(iter(RECORDS[:3]), kind="Note")).written == 3
            with pytest.raises(fathomdb.InvalidInputError, match="put it in a list"):
                await db.ingest(RECORDS[0], kind="Note")

    run(main())
