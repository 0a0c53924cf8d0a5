"""Exports the network of a run to ONNX or to PyTorch's exported program, checks the file and measures its time.

    python scripts/export.py run=outputs/<run>                             ONNX, for batches of any size
    python scripts/export.py run=outputs/<run> format=pt2 batch=1 fold_batch_norm=true output=c.pt2

The exported network takes images B x 3 x S x S, prepared as in an evaluation of the run, and returns logits. The file's
metadata holds the names of the classes. The file is written only if the exported network predicts the same classes as the
network of the run, with the same logits up to rounding. The check and the measurement of ONNX need onnxruntime; without
onnxruntime both are left out.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import checkout  # noqa: F401  finds the package
from efficientconv.help import answer_help
from efficientconv.signals import leave_on_signals

if __name__ == "__main__":
    leave_on_signals()
    answer_help("export")  # now: the imports take seconds

import torch
from pydantic import Field
from torch import Tensor, nn

from efficientconv import cli
from efficientconv.deploy.export import Program, agreement, exported, prepare_for_export, runner
from efficientconv.engine.trained_run import load_run
from efficientconv.errors import UserError
from efficientconv.files import make_folder, refused_in_one_line, write_atomically
from efficientconv.latency import measure_latency
from efficientconv.results.figures import FIGURES
from efficientconv.results.table import Column, Table
from efficientconv.roofline.peaks import of_limit, quick_peaks
from efficientconv.validation import Section, UserPath, validate

BATCH = 16  # images of a measured pass where any number fits
CPU = torch.device("cpu")


class Order(Section):
    """The settings of configs/export.yaml."""

    run: UserPath
    format: Literal["onnx", "pt2"]
    batch: Annotated[int, Field(gt=0)] | None
    fold_batch_norm: bool
    checkpoint: UserPath | None
    output: UserPath | None


@cli.entry("export")
def main(values: dict) -> None:
    order = validate(Order, values)
    output = output_path(order)
    classifier = load_run(order.run, order.checkpoint, "cpu")
    shape = (3, classifier.run.image_size, classifier.run.image_size)
    network = prepare_for_export(classifier.model, fold_batch_norm=order.fold_batch_norm)
    network = network.to(memory_format=torch.contiguous_format)
    data = exported(network, order.format, shape, batch=order.batch, classes=classifier.run.classes)
    program = runner(data, order.format)
    if program is not None:
        agreed = agreement(classifier.model, program, shape, order.batch)
        if not agreed.holds():
            raise UserError(f"the exported network does not predict as the run's network ({agreed}); nothing was written")
    with refused_in_one_line(f"write {output}", "choose another output"):
        make_folder(output.parent)
        write_atomically(output, data)
    print(f"{output}: {len(data) / 1e6:.1f} MB, images {order.batch or 'B'} x {' x '.join(map(str, shape))}")
    if program is None:
        print("not checked and not measured: onnxruntime is not installed (pip install onnxruntime)")
    else:
        print(f"checked: {agreed}\n{times(classifier.model, program, shape[-1], order)}")


def output_path(order: Order) -> Path:
    """Raises UserError unless the name ends as the format does: another file could be overwritten."""
    beside = Path(order.run, "model") if Path(order.run).is_dir() else Path(order.run)  # weights by name: here
    path = Path(f"{beside}.{order.format}" if order.output is None else order.output)
    if path.suffix != f".{order.format}" or path.is_dir():
        raise UserError(f"output={order.output} is no name of a {order.format} file; end it with .{order.format}")
    return path


class Exported(nn.Module):
    """The exported network as a module, for the measurement."""

    def __init__(self, program: Program):
        super().__init__()
        self.program = program

    def forward(self, images: Tensor) -> Tensor:
        return self.program(images)


def times(model: nn.Module, program: Program, image_size: int, order: Order) -> str:
    batch = order.batch or BATCH
    models = {"this network in PyTorch": model, f"the {order.format} file": Exported(program)}
    sizes = dict.fromkeys(models, image_size)
    measured = measure_latency(models, sizes, batch_size=batch, device=CPU, repeats=5)
    peaks = quick_peaks(CPU)
    table = Table(list(measured.items()), [
        Column("", lambda row: row[0]), FIGURES["ms_per_image"].column(lambda row: row[1].ms_per_image),
        Column("of limit", lambda row: of_limit(model, image_size, row[1], peaks), str),
    ])  # fmt: skip
    return f"{batch} images at a time, {torch.get_num_threads()} threads:\n{table.text()}"


if __name__ == "__main__":
    main()
