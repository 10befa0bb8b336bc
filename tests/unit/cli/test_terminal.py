"""What a person at a terminal gets, and a pipe does not."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pty = pytest.importorskip("pty")


@pytest.fixture
def at_terminal(path, jsonl):
    """Runs an ingest with stderr, or stdout too, at a terminal; returns what was written there."""

    def ran(**environment):
        given = jsonl({"id": str(n), "text": f"note {n}"} for n in range(200))
        master, slave = pty.openpty()
        child = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "fathomdb",
                "ingest",
                given,
                "--db",
                path,
                "--kind",
                "Note",
                "--embedder",
                "hashing",
            ],
            stdout=subprocess.PIPE,
            stderr=slave,
            env={**os.environ, "TERM": "xterm-256color", **environment},
        )
        os.close(slave)
        drawn = b""
        try:
            while some := os.read(master, 65536):
                drawn += some
        except OSError:  # how Linux says that nobody has the other end any more
            pass
        os.close(master)
        out, _ = child.communicate()
        assert child.returncode == 0
        return out.decode(), drawn.decode()

    return ran


def test_bars_for_writing_and_projecting_are_drawn_on_stderr(at_terminal):
    out, drawn = at_terminal()

    assert "Writing" in drawn
    assert "Projecting" in drawn
    assert "200 records" in drawn
    assert "200 vectors" in drawn
    assert "100 %" in drawn
    assert "Writing" not in out
    assert "\x1b" not in out


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_no_bars_where_they_are_not_wanted(at_terminal, environment):
    _, drawn = at_terminal(**environment)

    assert drawn == ""


def test_hits_are_styled_for_a_terminal_and_the_words_stand_out(spawn, notes):
    plain = spawn("search", "rain", "--db", notes)
    styled = spawn("search", "rain", "--db", notes, FORCE_COLOR="1", TERM="xterm-256color")
    no_color = spawn("search", "rain", "--db", notes, FORCE_COLOR="1", NO_COLOR="1")

    assert "\x1b" not in plain.out
    assert "\x1b[1;33mRain\x1b[0m" in styled.out
    assert "\x1b" not in no_color.out
