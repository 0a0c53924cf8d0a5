"""Draws the intra-channel kernels that a run has learned, and prints their statistics (experiment 5 of the paper).

    python scripts/visualize_kernels.py run=<run folder>                      kernels.png and kernels.csv in this folder
    python scripts/visualize_kernels.py run=<run folder> against=<another>    two runs side by side in one picture
    python scripts/visualize_kernels.py run=<run folder> output=<file.png>    the picture in another file

The picture shows the kernels by stage; kernels.csv has one row for each kernel. The command prints the statistics of each
stage, and below them those of random kernels of the same size, for comparison.
"""

from pathlib import Path

import checkout  # noqa: F401  finds the package
from efficientconv.help import answer_help
from efficientconv.signals import leave_on_signals

if __name__ == "__main__":
    leave_on_signals()
    answer_help("visualize_kernels")  # now: the imports take seconds

from efficientconv import cli
from efficientconv.errors import UserError
from efficientconv.results.kernel_plot import draw_kernels
from efficientconv.results.kernels import RunKernels, kernel_table, kernels_of_run, summary_table
from efficientconv.results.pages import write_files
from efficientconv.validation import Section, UserPath, validate

LEGEND = "kinds: the template, of any sign, that holds half of a kernel's energy; dead: next to no weight in its layer."


class Order(Section):
    """The settings of configs/visualize_kernels.yaml."""

    run: UserPath
    against: UserPath | None
    output: UserPath | None


@cli.entry("visualize_kernels")
def main(values: dict) -> None:
    config = validate(Order, values)
    folders = [Path(folder) for folder in (config.run, config.against) if folder is not None]
    runs = labelled([kernels_of_run(folder) for folder in folders])
    picture = picture_path(config.output, folders[0], list(runs))
    tables = [folder / "kernels.csv" for folder in folders]
    write_files(picture.parent, {picture.name: draw_kernels(runs)})
    for folder, run in zip(folders, runs.values()):
        write_files(folder, {"kernels.csv": kernel_table(run).csv()})
    print(f"{summary_table(runs).text()}\n\n{LEGEND}\n\npicture: {picture}\ntable:   {', '.join(map(str, tables))}")
    if picture == folders[0] / "kernels.png" and (folders[0] / "wandb.json").exists():
        print(f"into its W&B run: python scripts/track.py {folders[0]}")


def labelled(runs: list[RunKernels]) -> dict[str, RunKernels]:
    """The runs by model; by the name of the run if both have the same model; numbered if both have the same name."""
    models, names = [run.summary["model_name"] for run in runs], [run.run for run in runs]
    numbered = [f"{name}_{number}" for number, name in enumerate(names, start=1)]
    labels = next(labels for labels in (models, names, numbered) if len(set(labels)) == len(runs))
    return dict(zip(labels, runs))


def picture_path(output: str | None, folder: Path, labels: list[str]) -> Path:
    """The path of the picture. Raises UserError for an output that is no PNG."""
    if output is None:
        return folder / ("kernels.png" if len(labels) == 1 else f"kernels_{'_vs_'.join(labels)}.png")
    if Path(output).suffix != ".png":
        raise UserError(f"output={output} is no name of a PNG file; end it with .png")
    return Path(output)


if __name__ == "__main__":
    main()
