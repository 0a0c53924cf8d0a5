"""Slurm on one machine, as far as submitit asks it: a submitted script really runs, in the background.

`install(folder)` puts sbatch, srun, scontrol and sacct there. What it lacks: queues, limits, time, other machines.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

COMMANDS = ("sbatch", "srun", "scontrol", "sacct")


def install(folder: Path) -> None:
    folder.mkdir()
    for name in COMMANDS:
        script = folder / name
        script.write_text(f'#!/bin/sh\nexec {sys.executable} {Path(__file__).resolve()} {name} "$@"\n')
        script.chmod(0o755)


def sbatch(script: str) -> None:
    """Starts the script's job, or each of its array's, in the background."""
    number = "1" if not list(STATE.glob("state-*")) else str(1 + len(list(STATE.glob("state-*"))))
    array = re.search(r"--array=0-(\d+)", Path(script).read_text())
    tasks = range(int(array[1]) + 1) if array else [None]
    for task in tasks:
        subprocess.Popen(
            [sys.executable, __file__, "run", script, number, "" if task is None else str(task)],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
    print(f"Submitted batch job {number}")


def run(script: str, number: str, task: str) -> None:
    """One job, again for as long as it is requeued."""
    array = {"SLURM_ARRAY_JOB_ID": number, "SLURM_ARRAY_TASK_ID": task} if task else {}
    job = f"{number}_{task}" if task else number
    while True:
        _set(job, "RUNNING")
        code = subprocess.call(["bash", script], env=os.environ | {"SLURM_JOB_ID": number} | array)
        if _get(job) != "REQUEUED":
            break
    _set(job, "COMPLETED" if code == 0 else "FAILED")


def srun(*args: str) -> None:
    """`--output FILE --error FILE command`: what it starts is the step that Slurm would signal."""
    first = next(index for index, arg in enumerate(args) if arg == sys.executable)
    for option, stream in (("--output", 1), ("--error", 2)):
        path = args[args.index(option) + 1]
        for mark, name in (("%A", "SLURM_ARRAY_JOB_ID"), ("%a", "SLURM_ARRAY_TASK_ID"), ("%j", "SLURM_JOB_ID")):
            path = path.replace(mark, os.environ.get(name, ""))
        os.dup2(os.open(path.replace("%t", "0"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644), stream)
    _write(f"step-{_this_job()}", str(os.getpid()))
    os.execvp(args[first], args[first:])


def scontrol(action: str, job: str) -> None:
    assert action == "requeue"
    _set(job, "REQUEUED")


def sacct(*_: str) -> None:
    print("JobID|State|NodeList")
    for path in STATE.glob("state-*"):
        print(f"{path.name.removeprefix('state-')}|{path.read_text()}|here")


def _this_job() -> str:
    task = os.environ.get("SLURM_ARRAY_TASK_ID")
    return os.environ["SLURM_JOB_ID"] + (f"_{task}" if task else "")


def _set(job: str, state: str) -> None:
    _write(f"state-{job}", state)


def _write(name: str, text: str) -> None:
    """At once: others read it all the time, and half of it, or nothing, is another answer."""
    temporary = STATE / f"{os.getpid()}.tmp"
    temporary.write_text(text)
    os.replace(temporary, STATE / name)


def _get(job: str) -> str:
    return (STATE / f"state-{job}").read_text()


if __name__ == "__main__":
    STATE = Path(os.environ["SLURM_STAND_IN"])
    globals()[sys.argv[1]](*sys.argv[2:])
