from __future__ import annotations

import os
import subprocess
import sys

import pytest

import fathomdb

COMMANDS = ("ingest", "search", "inspect", "status", "drain", "check", "export", "erase")


def test_the_version_is_that_of_the_distribution(spawn):
    done = spawn("--version")

    assert done.code == 0
    assert done.out == f"fathomdb-py {fathomdb.__version__}\n"


def test_help_lists_the_commands_in_the_order_of_use(run):
    done = run("--help")

    assert done.code == 0
    listed = [line.split()[0] for line in done.out.splitlines() if line.startswith("  ")]
    assert [word for word in listed if word in COMMANDS] == [*COMMANDS]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(run, command):
    done = run(command, "--help")

    assert done.code == 0
    assert f"fathomdb {command}" in done.out


def test_help_loads_neither_numpy_nor_rich():
    heavy = "{'numpy', 'rich', 'sqlite_vec'} & set(sys.modules)"
    code = f"import sys; from fathomdb.cli import main; main(['--help']); sys.exit(str({heavy}))"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.stderr.strip() == "set()"


@pytest.mark.parametrize(
    "arguments",
    [
        ("nothing-of-the-kind",),
        ("ingest",),
        ("search", "x", "--db", "x.db", "--limit", "0"),
        ("search", "x", "--db", "x.db", "--where", "{"),
        ("search", "x", "--db", "x.db", "--where", "[1]"),
        ("status", "--watch", "--db", "x.db"),
        ("drain", "--db", "x.db", "--timeout", "-1"),
    ],
)
def test_wrong_usage_ends_with_2(run, arguments):
    done = run(*arguments)

    assert done.code == 2
    assert done.out == ""
    assert "Error: " in done.err


def test_without_a_database_the_error_names_the_option_and_the_variable(run):
    done = run("status")

    assert done.code == 2
    assert "--db FILE" in done.err
    assert "FATHOMDB_DB" in done.err


def test_the_variable_stands_for_the_option(run, notes, monkeypatch):
    monkeypatch.setenv("FATHOMDB_DB", notes)

    assert run("status", "--json").json["path"] == notes


@pytest.mark.parametrize(
    "arguments",
    [
        ("search", "x"),
        ("inspect", "x"),
        ("status",),
        ("drain",),
        ("check",),
        ("export", "copy.db"),
        ("erase", "--node", "x", "--yes"),
    ],
)
def test_a_database_that_is_not_there_is_an_error_and_is_not_made(run, tmp_path, arguments):
    missing = tmp_path / "missing.db"

    done = run(*arguments, "--db", str(missing))

    assert done.code == 1
    assert done.out == ""
    assert f"there is no database {missing}" in done.err
    assert not missing.exists()


def test_an_error_of_ours_is_one_line_and_no_traceback(spawn, tmp_path):
    other = tmp_path / "other.db"
    other.write_text("this is no database, and it is long enough to have a header " * 20)

    done = spawn("status", "--db", str(other))

    assert done.code == 1
    assert done.err.startswith("Error: ")
    assert len(done.err.splitlines()) == 1
    assert other.read_text().startswith("this is no database")


def test_debug_shows_the_traceback(spawn, tmp_path):
    done = spawn("status", "--db", str(tmp_path / "missing.db"), FATHOMDB_DEBUG="1")

    assert done.code == 1
    assert "Traceback" in done.err
    assert "InvalidInputError" in done.err


def test_an_error_of_somebody_else_is_one_line_that_says_how_to_see_more(run, notes, plugins):
    done = run("search", "rain", "--db", notes, "--embedder", "broken")

    assert (done.code, done.out) == (1, "")
    expected = "Error: KeyError: 'weights' (unexpected; FATHOMDB_DEBUG=1 shows where it comes from)"
    assert done.err == f"{expected}\n"


def test_a_reader_that_goes_away_ends_a_command_quietly(run, jsonl, path):
    text = "word " * 400
    made = run(
        "ingest",
        jsonl({"id": str(n), "text": f"{n} {text}"} for n in range(200)),
        "--db",
        path,
        "--kind",
        "Note",
    )
    assert made.code == 0
    for form in ((), ("--json",)):
        child = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "fathomdb",
                "search",
                "word",
                "--db",
                path,
                "--limit",
                "4000",
                *form,
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.close()
        said = child.stderr.read().decode()
        child.stderr.close()

        assert child.wait() == 141
        assert said == ""


def test_a_second_owner_is_told_who_the_first_is(spawn, open_db, path, jsonl):
    open_db()

    for command in (("drain",), ("ingest", jsonl([]), "--kind", "Note")):
        done = spawn(*command, "--db", path)
        assert done.code == 1
        assert f"open in process {os.getpid()}" in done.err
