"""The torture script, briefly: each of A, C, F and K is killed once, in a step, a save or an evaluation."""

from __future__ import annotations

import pytest

from conftest import command


@pytest.mark.slow
def test_killed_runs_end_bit_for_bit_as_unbroken_ones(tmp_path):
    done = command("scripts/torture.py", "--kills", 4, "--epochs", 2, "--output-dir", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    text = (tmp_path / "reliability.md").read_text()
    assert "**4 of 4 runs ended bit for bit as the unbroken one.**" in text
    rows = [line for line in text.splitlines() if line.startswith(("| a", "| c", "| f", "| k"))]
    assert [row[2] for row in rows] == ["a", "c", "f", "k"]
    kills = [sum(map(int, row.split("|")[4:7])) for row in rows]
    assert kills == [1, 1, 1, 1], text
