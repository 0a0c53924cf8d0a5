"""How many workers, how far ahead, in how much memory: from the machine, and divided among the processes that share it."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import pytest

from efficientconv.data.parallel import Capacity, available_cores, capacity
from efficientconv.system import available_memory
from test_data_helpers import assert_refused, make_photos, train

MB = 10**6


@pytest.fixture
def eight_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))


@pytest.mark.parametrize("processes, workers", [("1", 8), ("2", 4), ("3", 2), ("16", 1)])
def test_cores_are_divided_among_the_processes_of_a_machine(eight_cores, monkeypatch, processes, workers):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", processes)
    assert capacity(None, MB, batches=100, available_bytes=10**12).workers == workers


def test_a_process_starts_its_share_of_workers(tmp_path, monkeypatch):
    files = make_photos(tmp_path)
    for processes in (1, available_cores()):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
        before, loader = len(multiprocessing.active_children()), train(files, batch=4, workers=None)
        next(loader.epoch(0))
        started = len(multiprocessing.active_children()) - before
        assert started == available_cores() // processes and str(loader).startswith(f"{started} worker")
        del loader  # and its workers


def test_where_memory_is_short_less_is_made_ahead_then_fewer_work(eight_cores):
    by_memory = {mb: capacity(None, MB, batches=100, available_bytes=4 * mb * MB) for mb in (100, 17, 16, 9, 5, 2)}
    assert {mb: (c.workers, c.ahead) for mb, c in by_memory.items()} == {
        100: (8, 2), 17: (8, 2), 16: (8, 1), 9: (8, 1), 5: (4, 1), 2: (1, 1)
    }  # fmt: skip
    assert all(c.slots * MB <= mb * MB for mb, c in by_memory.items())
    assert_refused(lambda: capacity(None, MB, 100, 4 * MB), "a batch takes 1 MB", "trainer.accumulation_steps")


def test_no_more_workers_than_batches_and_none_where_none_are_asked_for(eight_cores):
    assert capacity(None, MB, batches=3, available_bytes=10**12).workers == 3
    assert capacity(0, MB, batches=3, available_bytes=0) == Capacity(0, 0, MB)


@pytest.mark.parametrize("limit, left", [("max", 4096 * 1024), ("3000000", 2_000_000), (None, 4096 * 1024)])
def test_memory_is_what_the_container_has_left(tmp_path, limit, left):
    (tmp_path / "meminfo").write_text("MemTotal:        8192 kB\nMemAvailable:    4096 kB\nHugePages_Total:       0\n")
    if limit:
        (tmp_path / "memory.max").write_text(limit + "\n")
        (tmp_path / "memory.current").write_text("1000000\n")
    assert available_memory(tmp_path / "meminfo", Path(tmp_path)) == left
