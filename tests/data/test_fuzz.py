"""Damaged files are read or refused in a sentence: a few seconds of ``tests/data/fuzz.py``, which runs for longer."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_readers_refuse_damaged_files_in_a_sentence():
    program = Path(__file__).with_name("fuzz.py")
    done = subprocess.run([sys.executable, str(program), "5"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("damaged files read") == 4
