"""Lists, shows, compares, annotates and removes runs.

    python scripts/runs.py list                                the runs in outputs/, newest first
    python scripts/runs.py list outputs/smoke results/cifar_small/runs
    python scripts/runs.py show outputs/<run>                  settings, results, machine and note of the run
    python scripts/runs.py diff outputs/<run> outputs/<other>  the settings and results that differ
    python scripts/runs.py diff results/cifar_small/runs/<run>.json outputs/<run>
    python scripts/runs.py note outputs/<run> "batch norm behind the addition: no gain"
    python scripts/runs.py rm outputs/<run> outputs/<other>    asks first, unless --yes is given

A run is its folder, or its record in results/<tier>/runs/.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Mapping
from operator import itemgetter
from pathlib import Path

import checkout  # noqa: F401  finds the package
from efficientconv.help import parser_for
from efficientconv.signals import guarded, leave_on_signals

if __name__ == "__main__":
    leave_on_signals()

from efficientconv.engine.epoch_log import training_totals
from efficientconv.engine.run_folder import RunFolder, in_use
from efficientconv.errors import UserError
from efficientconv.files import named, refused_in_one_line, write_atomically
from efficientconv.results.figures import FIGURES
from efficientconv.results.record import RunRecord
from efficientconv.results.report.sources import FoundRun, Sources, find_sources
from efficientconv.results.report.times import RunTimes
from efficientconv.results.table import Column, Table
from efficientconv.text import printable
from efficientconv.validation import flat

OUTPUTS = Path("outputs")
HELD_OUT = "best_val_top1_percent"


def main() -> None:
    args = parse_args()
    args.command(args)


def list_runs(args: argparse.Namespace) -> None:
    sources = find_sources(args.paths)
    for warning in sources.warnings:
        print(f"warning: {printable(warning)}", file=sys.stderr)
    newest_first = sorted(sources.runs, key=last_change, reverse=True)
    print(Table(newest_first, [
        Column("run", "record.run"),
        Column("state", "record.state"),
        Column("epochs", lambda run: f"{len(run.record.metrics)}/{run.record.config['trainer']['epochs']}"),
        FIGURES["top1_percent"].column(lambda run: run.result.get("top1_percent")),
        FIGURES[HELD_OUT].column(lambda run: training_totals(run.record.metrics)[HELD_OUT]),
        FIGURES["macs"].column(lambda run: run.result.get("macs")),
        Column("note", note_of),
    ]).text())  # fmt: skip


def last_change(run: FoundRun) -> float:
    """The time of the last change of the run, without its note."""
    status = run.path / "status.json"
    return (status if status.exists() else run.path).stat().st_mtime


def show(args: argparse.Namespace) -> None:
    run = found(args.run)
    record = run.record
    told = {"state": record.state, "reason": record.reason, "note": note_of(run)}
    tables = [listed("run", args.run, told)]
    for title, part in ("result", results(run)), ("setting", settings(record)), ("environment", flat(record.environment)):
        tables += [listed(title, "", part)] if part else []
    print("\n\n".join(tables))


def diff(args: argparse.Namespace) -> None:
    runs = [found(path) for path in (args.run, args.other)]
    records = [run.record for run in runs]
    with_layers = records[0].model == records[1].model  # a name may stand for two networks
    sides = [results(run) | settings(run.record, with_layers) | flat(run.record.environment) for run in runs]
    keys = [key for key in {**sides[0], **sides[1]} if sides[0].get(key) != sides[1].get(key)]
    rows = [{"": key} | {name: str(side.get(key, "")) for name, side in zip("AB", sides)} for key in keys]
    print(f"A: {args.run}\nB: {args.other}\n{parting(*records)}\n")
    print(Table.of(rows).text() if rows else "nothing differs")


def note(args: argparse.Namespace) -> None:
    folder = existing(args.run)
    with refused_in_one_line(f"write into {folder.path}", "make that possible"):
        write_atomically(folder.note_file, f"{args.text}\n".encode(errors="surrogateescape"))


def remove(args: argparse.Namespace) -> None:
    """Removes runs. All folders are checked before the first is removed."""
    folders = list({named(run): existing(run) for run in args.runs}.values())  # each once, also if it is named twice
    for folder in folders:
        if in_use(folder.path):
            raise UserError(f"{folder.path} is in use by another process; nothing was removed")
        if inside := sorted(lock.parent for lock in folder.path.glob("*/**/run.lock")):
            raise UserError(f"{folder.path} holds other runs, such as {inside[0]}: move or remove them; nothing was removed")
    size = sum(path.lstat().st_size for folder in folders for path in folder.path.rglob("*"))
    question = f"remove {len(folders)} run folder{'s' * (len(folders) > 1)}, {size / 1e6:.1f} MB"
    if not args.yes and not confirmed(question):
        raise UserError("nothing was removed; give --yes to remove without a question")
    for folder in folders:
        with refused_in_one_line(f"remove {folder.path}", "what is left of it is no run any more"):
            shutil.rmtree(named(folder.path))  # "." cannot be removed by that name
        print(f"removed {folder.path}")


def confirmed(question: str) -> bool:
    return sys.stdin.isatty() and input(f"{question}? [y/N] ").strip().lower() in ("y", "yes")


def existing(run: Path) -> RunFolder:
    folder = RunFolder(run)
    if run.is_symlink() or not folder.holds_run():
        raise UserError(f"{run} is no run folder: it {'is a link' if run.is_symlink() else 'has no config.yaml'}")
    return folder


def found(path: Path) -> FoundRun:
    """The run of a run folder or of a record. Raises UserError if there is none, or more than one."""
    runs = find_sources([path]).runs
    if len(runs) > 1:
        raise UserError(f"{path} holds {len(runs)} runs; name one of them")
    return runs[0]


def note_of(run: FoundRun) -> str:
    return RunFolder(run.path).note() if run.path.is_dir() else ""


def results(run: FoundRun) -> dict[str, str]:
    """The run's figures, with the times that scripts/report.py shows."""
    of_record = named(run.path).parent.parent
    tier_folders = [*(path.parent for path in Path("results").glob("*/runs")), of_record]  # the last one wins
    result = RunTimes(Sources(tier_folders=tier_folders)).result(run)
    shown = {figure.title: figure.show(result.get(name)) for name, figure in FIGURES.items()}
    return {title: value for title, value in shown.items() if value}


def settings(record: RunRecord, with_layers: bool = False) -> dict[str, object]:
    """The settings of the configuration. The model's name stands for the layers."""
    return {key: value for key, value in record.settings.items() if with_layers or not key.startswith("model.stages.")}


def parting(one: RunRecord, other: RunRecord) -> str:
    """The first epoch in which the training of two runs differs, as a sentence."""
    for ours, theirs in zip(one.metrics, other.metrics):
        if ours.get("train_loss") != theirs.get("train_loss"):
            return f"training losses differ from epoch {ours.get('epoch')} on"
    return f"training losses of {min(len(one.metrics), len(other.metrics))} epochs are equal"


def listed(title: str, about: object, values: Mapping[str, object]) -> str:
    """Two columns: the keys under `title`, the values under `about`. A key without a value is left out."""
    rows = [(key, str(value)) for key, value in values.items() if value not in (None, "")]
    return Table(rows, [Column(title, itemgetter(0)), Column(str(about), itemgetter(1))]).text()


def parse_args() -> argparse.Namespace:
    parser = parser_for(__doc__)
    commands = parser.add_subparsers(required=True, metavar="list|show|diff|note|rm")
    for name, command, text in (
        ("list", list_runs, "prints state, accuracy and note of each run"),
        ("show", show, "prints settings, results, machine and note of a run"),
        ("diff", diff, "prints what differs between two runs"),
        ("note", note, "keeps a note in the folder of a run"), ("rm", remove, "removes run folders"),
    ):  # fmt: skip
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(command=command)
        if name == "list":
            sub.add_argument("paths", nargs="*", type=Path, default=[OUTPUTS], metavar="PATH", help=f"default: {OUTPUTS}")
        elif name == "rm":
            sub.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a run folder")
            sub.add_argument("--yes", action="store_true", help="remove without a question")
        else:
            what = "a run folder" if name == "note" else "a run folder or a record"
            sub.add_argument("run", type=Path, metavar="RUN", help=what)
        if name == "diff":
            sub.add_argument("other", type=Path, metavar="OTHER", help="another one")
        if name == "note":
            sub.add_argument("text", help="the note; it replaces an earlier note")
    return parser.parse_args()


if __name__ == "__main__":
    guarded(main)
