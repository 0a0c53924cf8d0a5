"""A process of warm_python.py ends, prints and takes signals as a plain Python's does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT, warm_python

PROGRAMS = {
    "nothing": "",
    "streams and arguments": "import os, sys; print(sys.argv[1:], os.getcwd(), input()); print(__name__, file=sys.stderr)",
    "an environment": "import os; print({n: v for n, v in os.environ.items() if n not in ('_', 'SHLVL', 'LC_CTYPE')})",
    "an exit code": "import sys; sys.exit(3)",
    "a text": "import sys; sys.exit('no')",
    "at its end": "import atexit, threading; atexit.register(print, 'b'); threading.Timer(0.05, print, ['a']).start()",
    "a signal": "import os, signal; print(1, flush=True); os.kill(os.getpid(), signal.SIGKILL)",
    "a neighbour": "import aside; print(aside.__file__)",
    "standard output": "import sys; sys.stdout.reconfigure(errors='replace'); print(sys.stdout.isatty())",
}

PATHS = os.environ | {"PYTHONPATH": str(ROOT)}


def both() -> tuple[list[str], list[str]]:
    return [sys.executable], warm_python()


def start(python: list[str], script: Path, *args: str) -> subprocess.Popen:
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    return subprocess.Popen([*python, str(script), *args], cwd=script.parent, text=True, **pipes)


@pytest.fixture
def script(tmp_path: Path) -> Path:
    (tmp_path / "aside.py").touch()
    return tmp_path / "script.py"


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_it_ends_and_prints_as_a_plain_one(program, script):
    script.write_text(program)
    processes = [start(python, script, "a b", "é") for python in both()]
    plain, warm = ((process.communicate("given\n"), process.returncode) for process in processes)
    assert warm == plain


def test_an_exception_is_a_traceback(script):
    script.write_text("def f():\n    raise KeyError(2)\nf()\n")
    (_, plain), (_, warm) = (start(python, script).communicate() for python in both())
    assert plain.startswith("Traceback") and warm.startswith("Traceback")
    assert warm.endswith(plain.split("\n", 1)[1])


def test_of_what_it_starts_runs_are_warm(script):
    """Where no library finds the environment changed."""
    (script.parent / "train.py").write_text("import sys; print(sys.argv[1:], 'torch' in sys.modules, flush=True)")
    script.write_text("""
import os, subprocess, sys
subprocess.run([sys.executable, os.path.abspath("train.py"), "a b", "c"])
subprocess.run([sys.executable, os.path.abspath("train.py"), "d"], env=os.environ | {"OMP_NUM_THREADS": "77"})
subprocess.run([sys.executable, os.path.abspath("aside.py")])
subprocess.run([sys.executable, "-c", "import sys; print(sys.argv, 'torch' in sys.modules)", "train.py"])
""")
    assert start(warm_python(), script).communicate()[0].splitlines() == [
        "['a b', 'c'] True", "['d'] False", "['-c', 'train.py'] False",
    ]  # fmt: skip


def test_a_run_of_a_sweep_is_told_as_a_plain_one(script):
    call = [sys.executable, "-u", "-m", "efficientconv.sweep.job", "--help"]
    script.write_text(f"import subprocess, sys; subprocess.run([sys.executable, *{call[1:]}])")
    plain = subprocess.run(call, cwd=ROOT, env=PATHS, capture_output=True, text=True)
    warm = subprocess.run([*warm_python(), script], env=PATHS, cwd=script.parent, capture_output=True, text=True)
    assert plain.stdout.startswith("usage: ") and (warm.stdout, warm.stderr) == (plain.stdout, plain.stderr)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_signals_reach_it(number, script):
    script.write_text(
        f"import signal, sys, time\nsignal.signal({number:d}, lambda number, _: sys.exit(number))\nprint(1, flush=True)\n"
        "while True: time.sleep(0.1)\n"
    )
    process = start(warm_python(), script)
    assert process.stdout.readline() == "1\n"
    process.send_signal(number)
    assert process.wait(60) == number


def test_it_dies_with_its_client(script):
    script.write_text("import time\nprint(1, flush=True)\ntime.sleep(60)\n")
    process = start(warm_python(), script)
    assert process.stdout.readline() == "1\n"
    process.kill()
    assert process.communicate(timeout=30) == ("", "")  # the other end of its streams is closed
