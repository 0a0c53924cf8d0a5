"""Python with large libraries imported: a server that forks a process for each command line, and its client.

    python warm_python.py serve <descriptor of a listening socket> <program>
    python warm_python.py ask <socket> <script> <arguments>      as `python <script> <arguments>`, seconds sooner
    python warm_python.py ask <socket> -u [-m] <script or module> <arguments>      as `python -u ...`

The process has its own arguments, environment, folder, standard streams, signals and exit code. The client hands signals on,
and the process dies with it. Different from a plain one are its number, libraries, which are there already, the end (`end`),
and sys.executable: runs that it starts are warm, too (`program`). Where libraries find the environment changed, the client
becomes a plain Python.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import runpy
import select
import shlex
import signal
import socket
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
# large and wanted by most commands; the package's own modules each process imports itself
LIBRARIES = (
    "torch._dynamo", "sklearn.datasets", "scipy.stats", "matplotlib.pyplot", "hydra._internal.hydra", "pydantic",
    "rich.progress",
)  # fmt: skip
READ_BY_LIBRARIES = ("PYTHON", "OMP_", "MKL_", "LD_", "LC_", "LANG", "MALLOC_", "CUDA_", "TORCH", "TRITON")
# the first is set when torch._dynamo is imported, as some test file does, the others by torchrun for its processes
SET_BY_TORCH = ("TORCHINDUCTOR_CACHE_DIR", "TORCHELASTIC_", "TORCH_NCCL_")
OUR_PATHS = ("", str(Path(__file__).resolve().parent.parent))  # that a run's PYTHONPATH has


def read_by_libraries(env: Mapping[str, str]) -> dict[str, str]:
    names = (name for name in env if name.startswith(READ_BY_LIBRARIES) and not name.startswith(SET_BY_TORCH))
    found = {name: env[name] for name in names}
    paths = found.pop("PYTHONPATH", "").split(os.pathsep)
    return found | {"paths": os.pathsep.join(path for path in paths if path not in OUR_PATHS)}


AT_START = read_by_libraries(os.environ)


def program(address: str) -> str:
    """A shell script that stands for Python: train.py, eval.py and the runs of a sweep begin warm, all else is plain."""
    plain, warm = shlex.quote(sys.executable), shlex.join([sys.executable, "-IS", __file__, "ask", address])
    choice = f"""case "$1 $2 $3" in */"train.py "* | */"eval.py "* | "-u -m efficientconv."*) exec {warm} "$@" ;; esac"""
    return f'#!/bin/sh\n{choice}\nexec {plain} "$@"\n'


def ask(address: str, call: list[str]) -> int:
    """The exit code of `python <call>`: that of subprocess, negative where a signal ended it."""
    signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)  # the process may have begun before its number is known here
    server = socket.socket(socket.AF_UNIX)
    server.connect(address)
    socket.send_fds(server, [b"\0"], [0, 1, 2])
    stream = server.makefile("rw")
    print(json.dumps([call, os.getcwd(), dict(os.environ)]), file=stream, flush=True)
    pid = int(stream.readline())
    if not pid:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
        os.execv(sys.executable, [sys.executable, *call])

    def forward() -> None:
        """In a thread: a handler would not run where the signal comes just before the main thread waits."""
        while True:
            number = signal.sigwait(FORWARDED)
            with suppress(ProcessLookupError):  # it has ended meanwhile
                os.kill(pid, number)

    threading.Thread(target=forward, daemon=True).start()
    return int(stream.readline())


def serve(listener: socket.socket) -> list[str]:
    """Returns in the process of each call, which it has become, with the call. The server ends with its standard input."""
    while True:
        ready, _, _ = select.select([sys.stdin, listener], [], [])
        if sys.stdin in ready:
            sys.exit()
        connection, _ = listener.accept()
        if not os.fork():
            listener.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            return answer(connection)
        connection.close()


def answer(connection: socket.socket) -> list[str]:
    """Forks the process, and says how it ended; ends it where the client has gone."""
    _, streams, _, _ = socket.recv_fds(connection, 1, 3)
    call, folder, environment = json.loads(connection.makefile().readline())
    if read_by_libraries(environment) != AT_START:
        connection.sendall(b"0\n")
        os._exit(0)
    pid = os.fork()
    if not pid:
        connection.close()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        return call
    for stream in (0, 1, 2, *streams):
        os.close(stream)
    connection.sendall(b"%d\n" % pid)
    ready, _, _ = select.select([connection, process := os.pidfd_open(pid)], [], [])
    if process not in ready:
        os.kill(pid, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with suppress(BrokenPipeError):
        connection.sendall(b"%d\n" % code)
    os._exit(0)


def run(call: list[str]) -> int:
    """What `python <call>` does once it is up; the exit code that it ends with."""
    sys.path[1:1] = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    code = None
    try:
        if call[0] == "-u":
            sys.stdout.reconfigure(line_buffering=True)
            call = call[1:]
        if call[0] == "-m":
            sys.argv, sys.path[0] = call[1:], os.getcwd()
            runpy.run_module(call[1], run_name="__main__", alter_sys=True)
        else:
            run_script(call)
    except SystemExit as left:
        code = left.code
    except BaseException:  # of any kind: Python, too, shows it and ends
        sys.excepthook(*sys.exc_info())
        code = 1
    if isinstance(code, str):
        print(code, file=sys.stderr)
    return code if isinstance(code, int) else code is not None


def run_script(call: list[str]) -> None:
    script = type(sys)("__main__")
    script.__file__ = call[0]
    sys.argv, sys.path[0], sys.modules["__main__"] = call, os.path.dirname(call[0]), script
    with open(call[0], "rb") as file:
        exec(compile(file.read(), call[0], "exec"), script.__dict__)


def end(code: int) -> None:
    """As Python ends, without taking every imported module down first, which takes as long as an import."""
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    os._exit(code)


def main(role: str, address: str, *call: str) -> None:
    if role == "serve":
        for name in LIBRARIES:
            with suppress(ModuleNotFoundError):  # a GPU machine lacks some (scripts/gpu_bundle.sh)
                importlib.import_module(name)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that answer
        gc.freeze()  # or the processes would copy every object that they look through
        process = serve(socket.socket(fileno=int(address)))
        (sys.executable,) = call
        end(run(process))
    elif (code := ask(address, list(call))) < 0:
        if -code in FORWARDED:
            signal.signal(-code, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
        signal.raise_signal(-code)
    else:
        sys.exit(code)


if __name__ == "__main__":
    main(*sys.argv[1:])
