from __future__ import annotations

import pytest

from fathomdb.cli import formats


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.0, "0 ms"),
        (0.045, "45 ms"),
        (0.0999, "0.1 s"),
        (2.54, "2.5 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (192, "3 min 12 s"),
        (3600, "1 h 0 min"),
        (3840, "1 h 4 min"),
        (180_000, "2 d 2 h"),
    ],
)
def test_a_duration_has_at_most_two_units(seconds, said):
    assert formats.duration(seconds) == said


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (12_345, "12.3 kB"),
        (999_949, "1.0 MB"),
        (1_234_567_890, "1.2 GB"),
        (123_456_789_012, "123 GB"),
    ],
)
def test_a_size_has_a_unit_of_1000(count, said):
    assert formats.size(count) == said


def test_a_share_is_all_only_where_all_is_there():
    assert formats.share(999_999, 1_000_000) == "99 %"
    assert formats.share(5, 5) == "100 %"
    assert formats.share(0, 0) == ""


def test_a_count_agrees_with_its_noun():
    assert formats.counted(1, "record") == "1 record"
    assert formats.counted(12_345, "record") == "12,345 records"
    assert formats.counted(2, "chunk waits", "chunks wait") == "2 chunks wait"


def test_a_rate_of_nothing_is_not_shown():
    assert formats.rate(0, 1.0) == ""
    assert formats.rate(5, 0.0) == ""
    assert formats.rate(12_345, 1.0) == "12,345/s"
    assert formats.rate(1, 2.0) == "0.5/s"


def test_what_a_terminal_would_obey_is_not_printed():
    assert formats.printable("a\x1b[31mb\r\n\tc\x9b2Jd\x07") == "a [31mb c 2Jd"
