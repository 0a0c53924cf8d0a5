"""Inference of whole models by several programs: this project, PyTorch (eager, compiled), ONNX Runtime, OpenVINO.

All programs have the same weights, threads and images (noise, float32), and take turns in one run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec

import torch
from torch import Tensor, nn
from tqdm import tqdm

from efficientconv.benchmark.subjects import Subject, model_subject
from efficientconv.deploy.export import Program, agreement, exported, prepare_for_export, runner
from efficientconv.deploy.freezing import freeze
from efficientconv.results.table import Row
from efficientconv.roofline.peaks import Peaks
from efficientconv.timing import Job, measure

OURS = "ours"
PACKAGES = {"torch": ("torch",), "compiled": ("torch",), "ONNX Runtime": ("onnxruntime", "onnx", "onnxscript"),
            "OpenVINO": ("openvino", "onnx", "onnxscript")}  # fmt: skip
CHANNELS_LAST = ("torch", "compiled")  # the programs that are faster with channels-last images
TOLERANCE = 1e-3  # of the largest logit
REST_S = 0.05  # between programs: until the threads of the program before have stopped spinning


def missing() -> list[str]:
    """The programs of which a package is missing."""
    return [name for name, packages in PACKAGES.items() if any(find_spec(package) is None for package in packages)]


def ms_of(row: Row, program: str) -> float:
    """The milliseconds of a batch, median."""
    return row[f"{_column(program)}_ms_median"]


def programs_in(row: Row) -> list[str]:
    return [program for program in (OURS, *PACKAGES) if f"{_column(program)}_ms_median" in row]


def _column(program: str) -> str:
    return program.lower().replace(" ", "_")


def versions() -> str:
    packages = dict.fromkeys(package for name, (package, *_) in PACKAGES.items() if name not in missing())
    return ", ".join(f"{name} {version(name)}" for name in packages)


def rows_of(models: Sequence[str], layout: str, batch: int, repeats: int, peaks: Peaks, bar: tqdm) -> list[Row]:
    """Measures all models and programs in turn: a row for each model. Times are of a batch, MACs of one image.

    Raises RuntimeError if a program computes other logits.
    """
    torch.compiler.reset()  # earlier compilations would count against the limit, and would make sizes dynamic
    torch._dynamo.config.recompile_limit = 2 * len(models)  # all models share one code object
    torch._dynamo.config.fail_on_recompile_limit_hit = True  # else models beyond the limit would run eager
    subjects = [model_subject(name, layout, batch, "auto", torch.device("cpu")) for name in models]
    jobs = {(subject.name, program): job for subject in subjects for program, job in _jobs(subject).items()}
    times = measure(jobs, repeats, torch.device("cpu"), bar, rest_s=REST_S)
    rows: list[Row] = []
    for s in subjects:
        of_limit = peaks.of_limit(s.least_work("forward"), times[s.name, OURS].median)
        row = {"layout": layout, "side": s.shape[-1], "batch": batch, "model": s.name, "macs": s.macs, **of_limit._asdict()}
        for program in (program for name, program in times if name == s.name):
            quartiles = asdict(times[s.name, program]).items()
            row |= {f"{_column(program)}_ms_{part}": 1e3 * seconds for part, seconds in quartiles}
        rows.append(row)
    return rows


def _jobs(subject: Subject) -> dict[str, Job]:
    """The jobs by program. Batch norms get statistics as after training: a fresh network has nothing to fold."""
    network, (batch, *shape) = subject.network.eval(), subject.shape
    _randomize(network)
    images = torch.randn(subject.shape)
    laid = dict.fromkeys(CHANNELS_LAST, images.to(memory_format=torch.channels_last))
    jobs: dict[str, Job] = {OURS: partial(torch.inference_mode()(freeze(network).forward), images)}
    for program, run in _peers(network, batch, shape).items():
        difference = agreement(network, run, shape, batch).largest_difference
        if not difference < TOLERANCE:
            raise RuntimeError(f"{program} computes other logits of model {subject.name}: {difference:.1e} of the largest")
        jobs[program] = partial(run, laid.get(program, images))
    return jobs


def _peers(network: nn.Module, batch: int, shape: Sequence[int]) -> dict[str, Program]:
    plain, peers = prepare_for_export(network), {}
    if others := {name: run for name, run in ONNX_PROGRAMS.items() if name not in missing()}:
        onnx = exported(plain, "onnx", shape, batch=batch)
        peers = {name: run(onnx) for name, run in others.items()}
    plain = plain.to(memory_format=torch.channels_last)
    compiled = torch.compile(plain, dynamic=False, options={"freezing": True})
    return {"torch": _inference(plain), "compiled": _inference(compiled)} | peers


@torch.no_grad()
def _randomize(network: nn.Module) -> None:
    noise = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1, generator=noise)
            module.running_var.uniform_(0.5, 1.5, generator=noise)


def _inference(network: Program) -> Program:
    @torch.inference_mode()
    def run(images: Tensor) -> Tensor:
        return network(images.to(memory_format=torch.channels_last))

    return run


def _openvino(onnx: bytes) -> Program:
    import openvino

    core = openvino.Core()
    settings = {
        "INFERENCE_NUM_THREADS": torch.get_num_threads(), "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32",
    }  # fmt: skip
    compiled = core.compile_model(core.read_model(onnx), "CPU", settings)
    request = compiled.create_infer_request()
    return lambda images: torch.from_numpy(request.infer([images.numpy()])[compiled.output(0)])


ONNX_PROGRAMS = {"ONNX Runtime": partial(runner, format="onnx"), "OpenVINO": _openvino}
