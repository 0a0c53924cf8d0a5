"""Predicts the classes of images with the network of a run: the likeliest classes and their probabilities.

    python scripts/predict.py run=outputs/<run> images=<file>
    python scripts/predict.py run=outputs/<run> images=<folder> topk=1 output=predictions.csv

The command searches a folder with its subfolders. It prepares images as an evaluation of the run does. If the run has a
moving average of the weights, the network uses the average. Predictions go to stdout, all messages to stderr.
Optional settings: topk=5 (classes for each image), output=<file.csv>, checkpoint=<.pt or .safetensors file>, device=auto
(or cpu, cuda).
Exit code 0: all images were read. 2: a message names the images that could not be read, or another mistake.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from os.path import expanduser
from pathlib import Path
from typing import IO, Annotated, Any, Literal

import checkout  # noqa: F401  finds the package
from efficientconv.help import parser_for
from efficientconv.signals import guarded, leave_on_signals


def parse_args() -> argparse.Namespace:
    parser = parser_for(__doc__)
    parser.add_argument("settings", nargs="+", metavar="KEY=VALUE", help="run=, images= and optional settings")
    return parser.parse_args()


if __name__ == "__main__":
    leave_on_signals()
    parse_args()  # a mistake and --help are answered now: the imports take seconds

from pydantic import AfterValidator, Field
from tqdm import tqdm

from efficientconv.arguments import settings
from efficientconv.data.inference import find_images
from efficientconv.engine.device import device_name, keep_freed_memory, set_tf32
from efficientconv.engine.trained_run import Classifier, Prediction, load_run
from efficientconv.errors import UserError
from efficientconv.files import make_folder, refused_in_one_line, replacing
from efficientconv.progress import Progress
from efficientconv.results.table import Table
from efficientconv.text import printable
from efficientconv.validation import Section, UserPath, validate

GivenPath = Annotated[str, Field(min_length=1), AfterValidator(expanduser)]


class Order(Section):
    """The settings on the command line."""

    run: GivenPath
    images: GivenPath
    topk: Annotated[int, Field(gt=0)] = 5
    output: UserPath | None = None
    checkpoint: UserPath | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"


def main() -> None:
    sys.stdout.reconfigure(errors="backslashreplace")  # the terminal may lack letters of classes' and files' names
    order = parse_order(parse_args().settings)
    output = None if order.output is None else csv_path(order.output)
    paths, passed_over = find_images(Path(order.images))
    classifier = load_run(Path(order.run), order.checkpoint, order.device)
    keep_freed_memory(classifier.device)
    set_tf32(classifier.run.config.trainer.tf32)
    say(headline(classifier, len(paths)))
    if passed_over:
        say(str(passed_over))
    with writing(output) as file:
        damaged = predict(classifier, paths, order.topk, file)
    if output is not None:
        say(f"predictions: {output}")
    if damaged:
        raise UserError(f"{damaged} of {len(paths)} images could not be read; they are named above and were skipped")


def predict(classifier: Classifier, paths: list[str], topk: int, file: IO[str] | None) -> int:
    """Prints and writes all predictions. Returns the number of damaged images."""
    damaged = 0
    with Progress("predicting", len(paths), "images", lines=sys.stderr) as progress:
        for batch in classifier.batches(paths, topk):
            if not tell(batch) and file is None:
                break
            damaged += sum(bool(prediction.damage) for prediction in batch)
            if file is not None:
                file.write(Table.of([row_of(prediction, topk) for prediction in batch]).csv(header=not progress.done))
            progress.update(len(batch))
    return damaged


def headline(classifier: Classifier, images: int) -> str:
    run = classifier.run
    counted = f"{images} {'image' if images == 1 else 'images'}"
    weights = "the moving average of the weights" if classifier.averaged else "the weights"
    network = f"model {run.config.model.name}, {len(run.classes)} classes"
    return f"{counted}, {network}, {weights} in {run.origin}, {device_name(classifier.device)}"


def tell(batch: list[Prediction]) -> bool:
    """Prints a line for each image; damaged ones go to stderr. False: the reader of the output has ended, as head does."""
    try:
        for prediction in batch:
            if prediction.damage:
                tqdm.write(f"damaged: {printable(prediction.path)}: {printable(prediction.damage)}", file=sys.stderr)
            else:
                tqdm.write(line_of(prediction))
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return False
    return True


def line_of(prediction: Prediction) -> str:
    found = zip(prediction.classes, prediction.probabilities)
    line = ", ".join(f"{name} {100 * probability:.1f} %" for name, probability in found)
    return printable(f"{prediction.path}: {line}")


def row_of(prediction: Prediction, topk: int) -> dict[str, object]:
    row: dict[str, object] = {"image": prediction.path}
    for place in range(topk):
        known = place < len(prediction.classes)
        row[f"class_{place + 1}"] = prediction.classes[place] if known else ""
        row[f"probability_{place + 1}"] = f"{prediction.probabilities[place]:.6f}" if known else ""
    return row | {"damage": prediction.damage}


def csv_path(output: str) -> Path:
    """Raises UserError unless the name ends in .csv: an image could be overwritten."""
    path = Path(output)
    if path.suffix != ".csv" or path.is_dir():
        raise UserError(f"output={output} is no name of a csv file; end it with .csv")
    return path


@contextmanager
def writing(output: Path | None) -> Iterator[IO[str] | None]:
    """The open file, which gets its name when it is complete."""
    if output is None:
        yield None
        return
    with refused_in_one_line(f"write {output}", "choose another output"):
        make_folder(output.parent)
        with replacing(output, "t", encoding="utf-8", newline="") as file:
            yield file


def parse_order(given: list[str]) -> Order:
    """The settings from key=value arguments. Raises UserError."""
    values: dict[str, Any] = settings(given, "run=outputs/<run> images=<file or folder>")
    if values.get("topk", "").isdecimal():
        values["topk"] = int(values["topk"])
    return validate(Order, values)


def say(text: str) -> None:
    print(printable(text), file=sys.stderr, flush=True)


if __name__ == "__main__":
    guarded(main)
