"""A signal to any command, at any moment: one line and exit code 75. Real processes, real signals."""

from __future__ import annotations

import gc
import itertools
import multiprocessing
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conftest import ROOT, SMALL_RUN, train_here
from test_data_helpers import make_photos, official

LINE = "stopped by a signal; the same command continues\n"
ANEW = "stopped by a signal; the same command begins anew\n"
CONTINUING = {"train.py", *(f"scripts/{name}.py" for name in (
    "decisions", "gpu_day", "prepare_imagenet", "reproduce", "track", "tune",
))}  # fmt: skip
SCRIPTS = {path.name for path in (ROOT / "scripts").glob("*.py")} - {"checkout.py"}  # which the others import
COMMANDS = sorted(["train.py", "eval.py", *(f"scripts/{name}" for name in SCRIPTS)])
QUICK = ("scripts/runs.py", "scripts/track.py")  # without torch: they say what is missing before they can be stopped
NEEDED = {  # what stands on a script's command line, without which it ends at once
    "benchmark": "layers", "benchmark_data": "x", "decisions": "tier=smoke", "predict": "run=x", "prepare_imagenet": "x y",
    "reproduce": "table=2", "table": "x", "tune": "seed=0,1 --trials 1 --study s", "wandb_workspace": "--entity e",
    "weights": "x y",
}  # fmt: skip
RUN = [*SMALL_RUN, "trainer.epochs=200"]


def start(script: str, *args: object, **options: object) -> subprocess.Popen:
    call = [sys.executable, str(ROOT / script), *map(str, args)]
    return subprocess.Popen(call, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def wait_until_answered(process: subprocess.Popen) -> bool:
    """Until it has handlers of its own: Python's own start cannot be told to. False where it has ended by then."""
    while True:
        caught = re.search(r"SigCgt:\s*(\w+)", Path(f"/proc/{process.pid}/status").read_text())
        if int(caught[1], 16) >> signal.SIGUSR1 - 1 & 1:
            return True
        if process.poll() is not None:
            return False
        time.sleep(0.001)


def make_folders(root: Path) -> Path:
    for part, kind in itertools.product(("train", "test"), ("cat", "dog")):
        (root / part / kind).mkdir(parents=True)
        make_photos(root / part / kind)
    return root


def decoding_run(images: Path) -> list[str]:
    """The settings of a run whose workers decode these images."""
    return [
        "data=folder", f"data.root={images}", "data.image_size=32", "data.resize_size=32", "data.workers=2",
        "trainer.global_batch_size=8",
    ]  # fmt: skip


def assert_stopped(process: subprocess.Popen, line: str = LINE) -> None:
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (75, line)


@pytest.mark.parametrize("script", COMMANDS)
def test_while_a_command_imports(script):
    numbers = (signal.SIGINT, signal.SIGTERM)
    processes = [start(script, *NEEDED.get(Path(script).stem, "").split()) for _ in numbers]
    for process, number in zip(processes, numbers):
        if wait_until_answered(process):
            process.send_signal(number)
        else:
            assert script in QUICK
    for process in processes:
        if script in QUICK:
            assert process.wait(timeout=60) in (2, 75)
        else:
            assert_stopped(process, LINE if script in CONTINUING else ANEW)


@pytest.mark.parametrize("moment", [0.3, 1.0, 2.0, 3.0, 4.0])
def test_at_some_moment_of_a_start(moment, tmp_path):
    process = start("train.py", *RUN, f"run_dir={tmp_path / 'run'}")
    assert wait_until_answered(process)
    time.sleep(moment)
    process.send_signal(signal.SIGTERM)
    assert_stopped(process)


@pytest.mark.parametrize(
    "answer, later",
    [
        ("pass", "Preemption().install()"),
        ("pass", "with nothing_begun(): pass"),
        ("raise ImportError('half imported')", ""),
    ],
)
def test_a_signal_that_a_library_swallowed_or_renamed_is_not_lost(answer, later):
    """As a bare `except:` around an import does."""
    program = f"""
import os, signal, time
from efficientconv.engine.preemption import Preemption
from efficientconv.signals import guarded, leave_on_signals, nothing_begun

def command():
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)
    except:
        {answer}
    {later}
    print("went on")

leave_on_signals(continues=True)
guarded(command)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (75, "", LINE)


def test_at_the_very_end_of_a_command():
    program = """
import os, signal
from efficientconv import signals

answer = signals.answer

def late(handler):
    signals.answer = answer
    os.kill(os.getpid(), signal.SIGTERM)
    answer(handler)

def command():
    signals.answer = late
    raise SystemExit(2)

signals.leave_on_signals()
signals.guarded(command)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (75, ANEW)


@pytest.mark.parametrize(
    "error, words",
    [
        ("torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2 GiB')", "the GPU's memory is full"),
        ("RuntimeError('DataLoader worker (pid 7) is killed by signal: Killed.')", "a decoding worker was killed"),
    ],
)
def test_a_lack_of_memory_is_one_line_in_every_command(error, words):
    program = f"import torch; from efficientconv.signals import guarded\ndef command(): raise {error}\nguarded(command)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and done.stderr.startswith(f"error: {words}")


def test_while_it_waits_for_another_process(tmp_path):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    world = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    process = start("train.py", *RUN, f"run_dir={tmp_path / 'run'}", env=os.environ | world)
    listening = f":{port:04X} "
    while listening not in Path("/proc/net/tcp").read_text() + Path("/proc/net/tcp6").read_text():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    assert_stopped(process)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_to_all_processes_of_a_run_that_decodes(number, tmp_path):
    """As a terminal does and a scheduler: the workers leave the answer to their parent."""
    settings = (*decoding_run(make_folders(tmp_path / "set")), f"run_dir={tmp_path / 'run'}")
    process = start("train.py", *RUN, *settings, start_new_session=True)
    while not (tmp_path / "run" / "metrics.jsonl").exists():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.02)
    os.killpg(process.pid, number)
    assert_stopped(process)


def test_the_workers_end_with_their_run(tmp_path):
    """In a process that goes on, such as a notebook, without waiting for Python's garbage collector."""
    gc.disable()
    try:
        train_here(*SMALL_RUN, *decoding_run(make_folders(tmp_path / "set")), f"run_dir={tmp_path / 'run'}")
        assert not multiprocessing.active_children()
    finally:
        gc.enable()


@pytest.mark.parametrize("command", ["train", "prepare", "benchmark_data"])
def test_to_a_worker_that_has_just_been_forked(command, tmp_path):
    """A worker that a signal kills is taken for one that lacked memory."""
    if command == "train":
        settings = decoding_run(make_folders(tmp_path / "set"))
        arguments = ["train.py", *SMALL_RUN, *settings, f"run_dir={tmp_path / 'run'}"]
    elif command == "benchmark_data":  # one pipeline: torchvision's workers answer signals themselves
        pool = "from efficientconv.benchmark.pipelines import _in_processes; assert _in_processes(len, [[], []], 1)() == 2"
        (tmp_path / "pool.py").write_text(pool)
        arguments = [str(tmp_path / "pool.py")]
    else:
        images = official(tmp_path / "set")
        arguments = ["scripts/prepare_imagenet.py", str(images), str(tmp_path / "prepared"), "--subset"]
    program = """
import os, runpy, signal, sys
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
    os.register_at_fork(after_in_child=lambda number=number: os.kill(os.getpid(), number))
sys.argv = sys.argv[1:]
sys.path.insert(0, os.path.dirname(sys.argv[0]))
runpy.run_path(sys.argv[0], run_name="__main__")
"""
    done = subprocess.run([sys.executable, "-c", program, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "line",
    ["train.py --help", "scripts/table.py --help", "scripts/runs.py list results/cifar_small/runs", "train.py --cfg job"],
)
def test_output_that_nobody_reads_ends_a_command_without_a_word(line):
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([sys.executable, *line.split()], cwd=ROOT, stdout=write, stderr=subprocess.PIPE, timeout=60)
    os.close(write)
    assert done.returncode in (141, -signal.SIGPIPE) and not done.stderr
