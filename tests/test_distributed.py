"""Several processes on the CPU: the same sums, the same weights everywhere, one writer, no process left behind."""

from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from conftest import ROOT, SMALL_RUN, command, warm_python
from efficientconv.engine.checkpoint import load_newest
from efficientconv.engine.epoch_log import read_records
from efficientconv.engine.run_folder import RunFolder


def torchrun_of(processes: int) -> list[str]:
    return [*warm_python(), "-u", "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]


def torchrun(processes: int, script: str | Path, *args: object, timeout: int = 300) -> subprocess.CompletedProcess:
    call = [*torchrun_of(processes), str(ROOT / script), *map(str, args)]
    return subprocess.run(call, cwd=ROOT, capture_output=True, text=True, timeout=timeout)


def results(text: str) -> list[str]:
    return re.findall(r"top-1 [\d.]+ % \((\d+ of \d+)\), top-5 ([\d.]+)", text)


@pytest.fixture(scope="module")
def run_of_two(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("two") / "c"
    done = torchrun(2, "train.py", *SMALL_RUN, "trainer.accumulation_steps=2", f"run_dir={folder}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("run folder:") == 1
    return folder


def test_two_processes_train_on_the_global_batch(run_of_two):
    summary = RunFolder(run_of_two).summary()
    records = read_records(run_of_two / "metrics.jsonl")
    assert summary["processes"] == 2 and summary["images"] == 359
    assert [record["step"] for record in records] == [20, 40]  # as many as one process does
    assert records[0]["train_images"] == 20 * 64
    assert records[0]["val_images"] == summary["num_val"] == 143
    names = load_file(run_of_two / "model.safetensors").keys()
    assert "stages.stage2.layers.0.conv.depthwise.weight" in names  # no module. before it


def test_evaluation_counts_each_image_once_whatever_the_number_of_processes(run_of_two):
    # 359 test images: a prime
    summary = RunFolder(run_of_two).summary()  # which two processes counted
    alone = results(command("eval.py", f"run={run_of_two}").stdout)
    assert alone == [(f"{summary['top1']} of 359", f"{summary['top5_percent']:.2f}")]
    done = torchrun(3, "eval.py", f"run={run_of_two}")
    assert done.returncode == 0, done.stderr
    assert results(done.stdout) == alone, done.stdout


def test_two_processes_interrupted_end_as_uninterrupted(run_of_two, tmp_path):
    folder = tmp_path / "c"
    args = [*SMALL_RUN, "trainer.accumulation_steps=2", f"run_dir={folder}", "trainer.checkpoint_minutes=0.001"]
    call = [*torchrun_of(2), str(ROOT / "train.py"), *args]
    process = subprocess.Popen(call, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while len(list(folder.glob("checkpoints/*.pt"))) < 2:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.02)
    process.terminate()  # torchrun hands it to the processes, as Slurm does
    process.wait(timeout=60)
    assert RunFolder(folder).summary() is None

    done = torchrun(2, "train.py", *args)
    assert done.returncode == 0 and "continuing after step" in done.stdout, done.stderr
    states = [load_newest(path / "checkpoints")[1]["model"] for path in (run_of_two, folder)]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


@pytest.mark.slow
def test_a_process_that_dies_ends_the_others_with_its_error(tmp_path):
    script = tmp_path / "train.py"  # so that it begins warm
    script.write_text(
        "import os, sys\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        "from efficientconv.engine import trainer\n"
        "step = trainer.Trainer._train_step\n"
        "def dying(self, batches):\n"
        "    if self.world.rank == 1 and self.step == 3:\n"
        "        raise RuntimeError('the disk of rank 1 is gone')\n"
        "    step(self, batches)\n"
        "trainer.Trainer._train_step = dying\n"
        "from efficientconv.commands import train\n"
        "train()\n"
    )
    done = torchrun(2, script, *SMALL_RUN, "trainer.epochs=500", f"run_dir={tmp_path / 'c'}", timeout=120)  # a hang's end
    assert done.returncode != 0
    assert "the disk of rank 1 is gone" in done.stderr


@pytest.mark.slow
def test_a_batch_that_processes_cannot_share_is_refused(tmp_path):
    done = torchrun(2, "train.py", *SMALL_RUN, "trainer.global_batch_size=63", f"run_dir={tmp_path / 'c'}")
    assert done.returncode != 0
    assert "trainer.global_batch_size=63 is not divisible by trainer.accumulation_steps=1 times 2 processes" in done.stderr
    assert not (tmp_path / "c").exists()
