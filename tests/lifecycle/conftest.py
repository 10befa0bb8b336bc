"""Programs of their own: what only a whole process can show."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap

import pytest

PRELUDE = """
import os, signal, sys, threading
import fathomdb
from fathomdb import EngineConfig, Node
from fathomdb.testing import DeterministicEmbedder, RecordingEmbedder
path = sys.argv[1]

def ready():
    print("ready", flush=True)

def told():
    assert sys.stdin.readline() == "go\\n"
"""


class Program:
    """A running process that says ``ready`` and is told ``go``."""

    def __init__(self, script, *arguments):
        self.process = subprocess.Popen(
            [sys.executable, "-c", PRELUDE + textwrap.dedent(script), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # so that a fork that hangs is killed with it
        )

    @property
    def pid(self):
        return self.process.pid

    def wait_ready(self):
        line = self.process.stdout.readline()
        if line != "ready\n":
            raise AssertionError(f"not ready: {line!r} {self.process.communicate(timeout=60)}")

    def go(self):
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def end(self, timeout=60):
        """Its exit code, and what it wrote; an end that does not come fails the test."""
        out, err = self.process.communicate(timeout=timeout)
        return self.process.returncode, out, err

    def kill(self):
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate(timeout=60)


@pytest.fixture
def start():
    programs = []

    def started(script, *arguments):
        program = Program(script, *map(str, arguments))
        programs.append(program)
        return program

    yield started
    for program in programs:
        if program.process.poll() is None:
            program.kill()


@pytest.fixture
def run(start):
    """Runs a program to its end and returns what it wrote."""

    def ran(script, *arguments):
        code, out, err = start(script, *arguments).end()
        assert code == 0, (code, out, err)
        return out

    return ran
