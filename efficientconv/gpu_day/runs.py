"""Commands as a user types them: a run that is cut off and continued, inference, and the tests that need a GPU."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from PIL import Image

from efficientconv.errors import UserError
from efficientconv.files import ROOT
from efficientconv.gpu_day.bench import Bench, Row, pixels
from efficientconv.latency import measure_latency

INFERENCE_BATCHES = (1, 64)
_TEST, _OUTCOME = re.compile(r"tests/test_gpu.py::(\S+)"), re.compile(r"PASSED|FAILED|SKIPPED|ERROR")


def whole_run(bench: Bench) -> Iterator[Row]:
    """train.py from the first step to the summary on images that need no file, then the other commands on the run.

    Kernels are drawn and the network is exported on the CPU, wherever the run was trained.
    """
    with tempfile.TemporaryDirectory() as folder:
        run, picture, device = Path(folder) / "run", Path(folder) / "1.png", f"device={bench.device.type}"
        called = partial(_called, folder)
        order = (
            "model=c", f"model.width={bench.width}", "data=synthetic", f"data.num_images={16 * bench.batch}",
            f"trainer.{device}", f"trainer.global_batch_size={bench.batch}", "trainer.epochs=2",
            "trainer.precision=bf16", "schedule=onecycle", "logger=jsonl", f"run_dir={run}",
        )  # fmt: skip
        yield from called("train.py", *order)
        summary = json.loads((run / "summary.json").read_text())
        time = f"{summary['ms_per_image']:.4f} ms an image, {summary['limit_share']:.0%} of the limit ({summary['binds']})"
        yield {"command": "its summary", "exit_code": 0, "last_line": time}
        yield from called("eval.py", f"run={run}", device)
        if bench.tiny:  # the other commands have their own tests
            return
        Image.new("RGB", (48, 40), "green").save(picture)
        yield from called("scripts/predict.py", f"run={run}", f"images={picture}", "topk=1", device)
        yield from called("scripts/visualize_kernels.py", f"run={run}")
        yield from called("scripts/export.py", f"run={run}", "format=pt2")


def inference(bench: Bench) -> Iterator[Row]:
    """The ms per image of a forward pass in fp32, as in every run's summary."""
    for batch in INFERENCE_BATCHES[:1] if bench.tiny else INFERENCE_BATCHES:
        networks = {name: bench.network(name, bench.layout) for name in bench.models("acfikmhl")}
        sizes = {name: pixels(name, bench.layout) for name in networks}
        times = measure_latency(networks, sizes, batch_size=batch, device=bench.device, repeats=bench.repeats)
        for name, time in times.items():
            yield {
                "model": name, "layout": bench.layout, "batch": batch, "precision": "fp32",
                "ms_per_image": time.ms_per_image, "iqr_ms": time.iqr_ms,
            }  # fmt: skip


def gpu_tests(bench: Bench) -> Iterator[Row]:
    """tests/test_gpu.py, four tests at a time, a row for each test as soon as it has ended. A skipped test is not passed."""
    call = [sys.executable, "-m", "pytest", "tests/test_gpu.py", "-vv", "-rN", "--tb=short", "-p", "no:cacheprovider"]
    call += [] if bench.tiny else ["-n", "4"]
    with subprocess.Popen(call, cwd=ROOT, stdout=subprocess.PIPE, text=True) as running:
        for line in running.stdout:
            print(line, end="", file=sys.stderr)
            if (test := _TEST.search(line)) and (outcome := _OUTCOME.search(line)):
                yield {"test": test[1], "outcome": outcome[0].lower()}


def _called(folder: str, script: str, *arguments: str) -> Iterator[Row]:
    """Runs a command. The row leaves out `folder`, which changes each time. Raises UserError, after the row, if it fails."""
    done = subprocess.run([sys.executable, script, *arguments], cwd=ROOT, capture_output=True, text=True)
    line = (done.stderr if done.returncode else done.stdout).strip().splitlines()[-1].replace(folder, "<folder>")
    yield {"command": script, "exit_code": done.returncode, "last_line": line}
    if done.returncode:
        print(done.stderr, file=sys.stderr)
        raise UserError(f"{script}: {line}")
