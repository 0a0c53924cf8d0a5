"""scripts/table.py, and what all tables do with names that are more than text elsewhere."""

from __future__ import annotations

import contextlib
import csv
import fcntl
import html
import io
import itertools
import json
import math
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import termios
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import yaml

from conftest import ROOT, command
from efficientconv.csv_files import csv_rows
from efficientconv.engine.identity import network_digest
from efficientconv.engine.run_folder import RunFolder
from efficientconv.models import model_config
from efficientconv.results.families import family_of
from efficientconv.results.figures import FIGURES
from efficientconv.results.labels import label
from efficientconv.results.plot import Point, pareto_front, plot, points_of
from efficientconv.results.record import read_record, read_records_in, record_of, write_record
from efficientconv.results.report.sources import find_sources
from efficientconv.results.report.times import RunTimes
from efficientconv.results.run_table import title_of
from efficientconv.results.statistics import spread
from efficientconv.results.table import Column, Table
from efficientconv.results.times import Times, read_times, write_times
from efficientconv.text import printable

SETTINGS = {"seed": "seed", "epochs": "trainer.epochs", "width": "model.width", "model_name": "model.name"}


def variation(run: Path, folder: Path, **figures: object) -> Path:
    """A finished run as `run`, but of other figures; its configuration has those that are settings."""
    shutil.copytree(run, folder)
    config, summary = yaml.safe_load((run / "config.yaml").read_text()), json.loads((run / "summary.json").read_text())
    for key in SETTINGS.keys() & figures.keys():
        section, _, name = SETTINGS[key].rpartition(".")
        (config[section] if section else config)[name] = figures[key]
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "summary.json").write_text(json.dumps(summary | figures))
    lines = (run / "metrics.jsonl").read_text().splitlines()
    epochs = [json.loads(lines[min(i, len(lines) - 1)]) | {"epoch": i + 1} for i in range(config["trainer"]["epochs"])]
    (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(epoch)}\n" for epoch in epochs))
    return folder


def records(*folders: Path) -> list:
    return [record_of(RunFolder(folder)) for folder in folders]


def test_table_and_plot_of_runs(finished_run, tmp_path):
    done = command("scripts/table.py", finished_run, "--output", tmp_path / "table")
    assert done.returncode == 0, done.stderr
    summary = RunFolder(finished_run).summary()
    row = next(line for line in done.stdout.splitlines() if line.startswith("c "))
    assert f"{summary['top1_percent']:.2f}" in row and f"{summary['macs'] / 1e6:.2f}" in row
    assert (tmp_path / "table.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "table.csv").read_text().count("\n") == 2


@pytest.mark.parametrize("script", ["table", "report"])
def test_a_folder_is_no_name_of_a_page(script, finished_run, tmp_path):
    """Pages would lie beside the folder, or be called ".md"."""
    (tmp_path / "in").mkdir()
    for output in (tmp_path / "in", ""):
        done = command(f"scripts/{script}.py", finished_run, "--output", output, cwd=tmp_path)
        assert done.returncode == 2 and "is a folder; add the name" in done.stderr and done.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_the_home_folder_in_an_option_is_the_home_folder(finished_run, tmp_path):
    """No shell replaces the ~ in --output=~/x; a folder called ~ would be made."""
    (tmp_path / "outputs").symlink_to(finished_run.parent)
    at_home = {"cwd": tmp_path, "env": os.environ | {"HOME": str(tmp_path)}}
    for script, page in ("table", "table"), ("report", "report.html"):
        done = command(f"scripts/{script}.py", "~/outputs", f"--output=~/{page}", **at_home)
        assert done.returncode == 0, done.stderr
    done = command("scripts/runs.py", "list", "~/outputs", **at_home)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        ["outputs", "report.html", *(f"table.{ending}" for ending in ("md", "csv", "png", "svg"))]
    )


def test_after_the_quickstart_the_command_of_the_readme_takes_whatever_lies_in_outputs(finished_run, tmp_path):
    """A folder of run folders, an unfinished run, a damaged one, an earlier table, a run whose name is a formula."""
    outputs = tmp_path / "outputs"
    shutil.copytree(finished_run, outputs / "quickstart" / "c")
    evil = variation(finished_run, outputs / "=cmd|' !A0\x1b[31m", seed=1)
    unfinished = variation(finished_run, outputs / "unfinished", seed=2)
    (unfinished / "summary.json").unlink()
    (outputs / "damaged").mkdir()
    (outputs / "damaged" / "config.yaml").write_text("{")
    (outputs / "table.md").write_text("an earlier one")
    done = command("scripts/table.py", *sorted(outputs.iterdir()), "--output", outputs / "w0.5")
    assert done.returncode == 0, done.stderr
    warning, passed_over = done.stderr.splitlines()
    assert warning.startswith(f"warning: {outputs}/damaged is left out: ")
    assert passed_over == "skipped, without a test result: 'unfinished (trained)'"
    assert {path.name for path in outputs.glob("w*")} == {"w0.5.md", "w0.5.csv", "w0.5.png", "w0.5.svg"}
    assert [row["run"] for row in csv_rows(outputs / "w0.5.csv")] == ["c", evil.name.replace("\x1b", r"\x1b")]
    texts = done.stdout, (outputs / "w0.5.md").read_text(), (outputs / "w0.5.csv").read_text()
    for text, name in zip(texts, (r"  =cmd|' !A0\x1b[31m", r"=cmd\|' !A0\\x1b\[31m |", r",'=cmd|' !A0\x1b[31m")):
        assert "\x1b" not in text and name in text


def test_a_copy_of_a_run_under_another_name_is_warned_of(finished_run, tmp_path):
    for name in ("one", "two", "unfinished"):
        shutil.copytree(finished_run, tmp_path / name)
    (tmp_path / "unfinished" / "summary.json").unlink()
    variation(finished_run, tmp_path / "other", seed=1)
    done = command("scripts/table.py", tmp_path, "--output", tmp_path / "table")
    one, two = tmp_path / "one", tmp_path / "two"
    assert done.returncode == 0 and done.stderr.splitlines()[:-1] == [
        f"warning: {two} counts as one more seed, but has the seed and losses of {one}; leave one of them out"
    ]


def test_no_finished_run_is_one_line_that_says_where_each_stands(finished_run, tmp_path):
    for state in ("done", "running", "preempted", "diverged"):  # done: its summary was lost
        shutil.copytree(finished_run, tmp_path / state)
        (tmp_path / state / "summary.json").unlink()
        (tmp_path / state / "status.json").write_text(json.dumps({"state": state, "heartbeat": "2026-01-02T03:04:05"}))
    done = command("scripts/table.py", tmp_path)
    states = "'diverged (diverged)', 'done (trained)', 'preempted (preempted)', 'running (running)'"
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert f"none of these runs has a test result: {states}" in done.stderr


def test_a_place_that_cannot_be_written_is_one_line(finished_run, tmp_path):
    (tmp_path / "file").write_text("")
    done = command("scripts/table.py", finished_run, "--output", tmp_path / "file" / "table")
    assert done.returncode == 2 and "cannot write table.md, " in done.stderr and len(done.stderr.splitlines()) == 1


def test_a_point_is_the_mean_of_a_configuration_and_fronts_join_what_can_be_compared(finished_run, tmp_path):
    seeds = [variation(finished_run, tmp_path / f"s{seed}", seed=seed, top1_percent=60.0 + 10 * seed) for seed in (1, 2)]
    wide = variation(finished_run, tmp_path / "wide", width=0.25, macs=10**9, top1_percent=75.5)
    longer = variation(finished_run, tmp_path / "longer", epochs=15, macs=10**9, top1_percent=99.0)
    mean, other, apart = found = points_of(records(*seeds, wide, longer))
    assert (mean.top1.mean, mean.top1.std) == (75.0, pytest.approx(50**0.5))
    assert mean.series == other.series != apart.series and "epochs 15" in apart.series
    assert (mean.name, other.name) == ("c x 0.125", "c x 0.25")
    assert family_of(mean.name) == family_of("c@5.16e6") == family_of("c") != family_of("nosuch x 0.25")
    assert title_of(records(seeds[0], wide)) == "digits, width 0.125 to 0.25, 2 epochs"
    other_images = variation(finished_run, tmp_path / "other", data_name="folder", train_images_digest="0123")
    again = variation(finished_run, tmp_path / "again", data_name="folder", train_images_digest="4567")
    one, another = points_of(records(other_images, again))
    assert one.series != another.series and "images 0123" in one.series
    assert pareto_front([point for point in found if point.series == mean.series]) == [mean, other]


def test_a_network_has_one_time_wherever_it_is_shown(tmp_path):
    """That of its tier's measurement before that of the run itself."""
    of_c = [record for record in read_records_in(ROOT / "results/cifar_small/runs") if record.model == "c"]
    at_width = next(record for record in of_c if record.config["model"]["width"] == 0.25)
    folder = tmp_path / "cifar_small"
    shutil.copytree(ROOT / "results/cifar_small/runs", folder / "runs")
    measured = ((0.25, 9.5), (0.22265625, 7.5))
    write_times(folder, [
        Times("c", width, 64, ms, 0.1, f"{ms / 10:.2f} memory", None, None, None, "a CPU") for width, ms in measured
    ])  # fmt: skip
    times = RunTimes(find_sources([folder]))
    own = at_width.summary | {"limit_share": 0.3}
    for width, expected, share in (*((width, ms, ms / 10) for width, ms in measured), (0.2, own["ms_per_image"], 0.3)):
        config = at_width.config | {"model": at_width.config["model"] | {"width": width}}
        found = times.of(replace(at_width, config=config, summary=own))
        assert (found["ms"], found["limit_share"]) == (expected, pytest.approx(share))
    behind = at_width.config["model"] | {"decisions": {"batch_norm": "behind"}}
    another = times.of(replace(at_width, config=at_width.config | {"model": behind}, summary=own))
    assert another["ms"] == own["ms_per_image"], "the tier measured another network of this name and width"


@pytest.mark.parametrize(
    ("measured", "shown"), [("C as it is", [9.5, 1.0]), ("C of then", [1.0, 9.5]), ("not noted", [9.5, 1.0])]
)
def test_a_time_belongs_to_the_network_that_was_measured(measured, shown, tmp_path):
    """Not to one that the model's file has got since."""
    path = sorted((ROOT / "results/cifar_small/runs").glob("c-*.json"))[0]
    now = read_record(path)
    then = replace(now, config=now.config | {"model": now.config["model"] | {"decisions": {"batch_norm": "behind"}}})
    digests = {"C as it is": network_digest(now.run_config.model), "C of then": network_digest(then.run_config.model)}
    width, folder = now.run_config.model.width, tmp_path / "cifar_small"
    times = Times("c", width, 64, 9.5, 0.1, None, None, None, None, "a CPU", digests.get(measured))
    folder.mkdir()
    write_record(now, folder / "runs")
    write_times(folder, [times])
    assert read_times(folder) == {("c", width): times} and len(set(digests.values())) == 2
    own = {"ms_per_image": 1.0, "ms_per_image_batch": 64}
    found = [RunTimes(find_sources([folder])).of(replace(run, summary=run.summary | own)) for run in (now, then)]
    assert [time["ms"] for time in found] == shown


def test_the_digest_of_a_network_depends_on_what_it_computes_and_on_no_width():
    model = model_config("c")
    same = model.model_copy(update={"width": 0.25, "macs": 1e6, "description": "another", "source": "S"})
    others = [model_config("d"), model.model_copy(update={"layout": "cifar"}), model.model_copy(update={"stages": {}})]
    assert network_digest(model) == network_digest(same)
    assert len({network_digest(one) for one in (model, *others)}) == 4


def test_no_two_tables_of_a_tier_show_two_times_of_a_network():
    folder = ROOT / "results/cifar_small"
    measured, rows = read_times(folder), [row for path in folder.glob("table*.csv") for row in csv_rows(path)]
    for name in ("ms_per_image", "training_ms_per_image"):
        shown = {(row["row"].partition("@")[0], float(row["width"]), row[name]) for row in rows if row[name]}
        assert shown == {(*key, f"{getattr(measured[key], name):.6g}") for key in {shown[:2] for shown in shown}} != set()


def test_names_in_a_picture_cover_no_point_no_line_and_no_other_name():
    values = np.random.default_rng(0).normal(80, 1, (14, 2))
    points = [(f"name {i}", "black", (float(x), float(y))) for i, (x, y) in enumerate(values)]
    lines = [((x, y - 0.2), (x, y + 0.2)) for _, _, (x, y) in points]
    figure, axes = plt.subplots(figsize=(8, 5))
    axes.scatter(*values.T)
    label(axes, points, lines)
    boxes = [text.get_window_extent() for text in axes.texts]
    assert [text.get_text() for text in axes.texts] == [name for name, _, _ in points]
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
    places = axes.transData.transform([place for line in lines for place in line])
    assert not any(box.contains(*place) for box in boxes for place in places)
    plt.close(figure)


def test_a_name_stands_nearest_to_its_own_point_or_a_line_leads_to_it():
    figure, axes = plt.subplots(figsize=(8, 5))
    values = [(0.5, 0.5), (0.5, 0.52), (0.52, 0.51), (0.2, 0.2), (0.21, 0.23), (0.19, 0.24), (0.23, 0.21)]
    label(axes, [(f"name {i}", "black", place) for i, place in enumerate(values)], [(place, place) for place in values])
    boxes, points = [text.get_window_extent() for text in axes.texts], axes.transData.transform(values)
    distances = [[math.dist(point, np.clip(point, box.min, box.max)) for point in points] for box in boxes]
    nearest = [i for i, of_name in enumerate(distances) if min(of_name) == of_name[i]]
    assert len(nearest) + len(axes.lines) >= len(values) and len(nearest) >= 4
    plt.close(figure)


def test_a_line_to_a_name_leads_past_other_names_bars_and_lines():
    """Names of points as close together as F, G and H of tier cifar_small."""
    figure, axes = plt.subplots(figsize=(8, 5))
    axes.set(xlim=(0, 8), ylim=(75, 84))
    values, std = {"F": (3.27, 80.83), "G": (3.22, 80.98), "H": (3.27, 80.71), "B": (3.36, 81.12)}, (0.3, 0.12, 0.42, 0.11)
    bars = [((x, y - each), (x, y + each)) for (x, y), each in zip(values.values(), std)]
    label(axes, [(name, "black", place) for name, place in values.items()], [((2.8, 81.1), (5, 82.3))], bars)
    places, boxes = axes.transData.transform(list(values.values())), [text.get_window_extent() for text in axes.texts]
    leaders = [axes.transData.transform(line.get_xydata()) for line in axes.lines]
    assert leaders
    for number, leader in enumerate(leaders):
        own = int(np.argmin(np.linalg.norm(places - leader[0], axis=1)))
        steps = leader[0] + (leader[1] - leader[0]) * np.linspace(0.3, 1, 100)[:, None]  # F begins on the bar of H
        assert not any(box.contains(*step) for box in boxes[:own] + boxes[own + 1 :] for step in steps)
        for bar in bars[:own] + bars[own + 1 :]:
            assert not crossing(leader[0] + (leader[1] - leader[0]) * 0.3, leader[1], *axes.transData.transform(bar))
        assert not any(crossing(*leader, *other) for other in leaders[:number])
        distances = [math.dist(np.clip(place, boxes[own].min, boxes[own].max), place) for place in places]
        assert min(np.delete(distances, own)) > 16, "the name stands beside another point"
    plt.close(figure)


def crossing(*ends: np.ndarray) -> bool:
    """Whether the line between the first two places crosses that between the last two."""
    a, b, c, d = ends

    def side(start, end, place):
        return np.sign(np.linalg.det([end - start, place - start]))

    return side(a, b, c) != side(a, b, d) and side(c, d, a) != side(c, d, b)


def test_a_width_off_its_models_front_is_a_ring_with_the_models_name(monkeypatch):
    monkeypatch.setattr("efficientconv.results.plot.rendered", lambda drawing: drawing)
    tops = {"a": (70, 72, 71), "c": (60, 73)}  # the third A costs more than the second
    points = [Point(name, 10.0**i, spread([top]), name) for name, of in tops.items() for i, top in enumerate(of, start=6)]
    (axes,) = plot(points, "widths", FIGURES["macs"], joined=True).axes
    assert sorted(text.get_text() for text in axes.texts) == ["A", "A", "C"]
    (ring,) = [line for line in axes.lines if line.get_markerfacecolor() == "white"]
    assert ring.get_xydata().tolist() == [[100.0, 71.0]]
    assert "rings" in axes.get_legend().get_title().get_text()
    plt.close("all")


# what a spreadsheet, a terminal or a markdown viewer would act on, and what must not be touched
NAMES = [
    "=cmd|' /C calc'!A0", "+1+1", "-1+1", "@SUM(A1)", "'=taken", "＝1", "\x1b[31mred", "two\nlines", "a|b", "back\\slash|",
    "[link](http://example.org)", "<img src=x>", "\u202etxt.exe", "\udce9.jpg",
]  # fmt: skip
TEXTS = ["plain", "'quoted'", 'naïve, "comma"', "-1.5", "+0.25", "-inf", "日本語", ""]


@pytest.mark.parametrize("name", NAMES)
def test_names_stay_text_wherever_a_table_is_opened(name):
    table = Table.of([{"name": name, "figure": -1.5, "text": "-0.25"}])
    ((cell, *figures),) = list(csv.reader(io.StringIO(table.csv())))[1:]
    assert cell[0] not in "=+-@＝" and cell.isprintable() and figures == ["-1.5", "-0.25"]
    head, rule, line = table.markdown().splitlines()
    assert line.isprintable() and re.findall(r"(?<!\\)(?:\\\\)*[<|\[]", line) == ["|"] * 4  # none but the columns' own
    assert table.text().replace("\n", "").isprintable()
    texts = [text for tag, text in re.findall("<(\\w+)[^>]*>([^<]*)", table.html()) if tag == "td"]
    assert [html.unescape(text) for text in texts] == [printable(name), "-1.5", "-0.25"]


def test_our_own_readers_get_back_what_was_written(tmp_path):
    written = [name for name in NAMES if name.isprintable()] + TEXTS
    (tmp_path / "x.csv").write_text(Table.of([{"name": name, "n": "1"} for name in written]).csv())
    assert csv_rows(tmp_path / "x.csv") == [{"name": name, "n": "1"} for name in written]
    assert all(cell in Table.of([{"name": cell}]).csv().replace('""', '"') for cell in TEXTS)


RUNS = [{"model": "a", "macs": 15_651_840, "top1": 82.316}, {"model": "c", "macs": 5_157_888, "top1": None}]
COLUMNS = [
    Column("model", lambda run: run["model"], name="model"), FIGURES["macs"].column(lambda run: run["macs"]),
    FIGURES["top1_percent"].column(lambda run: run["top1"]), Column("empty", lambda run: None),
    Column(None, lambda run: 1 / 3, name="of_files_alone"),
]  # fmt: skip


def test_a_table_shows_people_units_and_gives_files_what_was_stored():
    table = Table(RUNS, COLUMNS, best=True)
    assert table.text().splitlines() == ["model  M MACs  top-1 %", "a       15.65    82.32", "c      * 5.16"]
    assert table.markdown().splitlines()[2:] == ["| a | 15.65 | 82.32 |", "| c | **5.16** |  |"]
    assert '<tr><td>c</td><td data-value="5157888.0"><strong>5.16</strong></td><td></td></tr>' in table.html()
    assert table.csv().splitlines() == [
        "model,macs,top1_percent,of_files_alone", "a,15651840,82.316,0.333333", "c,5157888,,0.333333",
    ]  # fmt: skip


def test_a_table_fits_the_terminal_that_it_is_printed_on_and_breaks_no_word():
    row = {"model": "c", "run": "c-cifar10_jpeg-s0-7f14352f", "why": "long words " * 30, "macs": 15_651_840}
    code = f"from efficientconv.results.table import Table; print(Table.of([{row}, {row}]).text())"
    shown = re.sub(r"\x1b\[[0-9;]*m", "", in_terminal(code, columns=80))
    assert len(shown.splitlines()) > 8 and max(map(len, shown.splitlines())) <= 80
    assert shown.count(row["run"]) == shown.count("15651840") == 2 and shown.split().count("words") == 60


@pytest.mark.parametrize("line", [
    ["scripts/complexity.py", "--layers", "c"], ["scripts/table.py", "{run}"],
    ["scripts/reproduce.py", "table=2", "tier=smoke", "--only", "c", "--dry-run"],
], ids=lambda line: line[0])  # fmt: skip
def test_prose_fits_the_terminal_that_it_is_printed_on(line, finished_run, tmp_path):
    """Lines with a path aside."""
    more = {"scripts/table.py": ["--output", str(tmp_path / "table")], "scripts/reproduce.py": ["--results", str(tmp_path)]}
    args = [word.format(run=finished_run) for word in line] + more.get(line[0], [])
    code = f"import runpy, sys; sys.argv = {args}; sys.path[:0] = ['scripts']; runpy.run_path({args[0]!r}, None, '__main__')"
    shown = re.sub(r"\x1b\[[0-9;]*m", "", in_terminal(code, columns=80))
    wide = [text for text in shown.splitlines() if len(text) > 80 and not any(len(word) > 30 for word in text.split())]
    assert not wide and len(shown.splitlines()) > 5


def test_clauses_with_commands_stand_below_each_other_where_the_terminal_is_narrow():
    line = "W&B: kept offline; to see it: wandb leet 'a folder/wandb'; to send it: python scripts/track.py 'a folder'"
    code = f"from efficientconv.text import clauses; print(clauses({line!r}))"
    assert in_terminal(code, columns=80).splitlines() == line.replace("; ", "\n  ").splitlines()
    assert in_terminal(code, columns=120).splitlines() == [line]


def in_terminal(code: str, columns: int) -> str:
    """What a program prints on a terminal so wide."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES")} | {"TERM": "xterm"}
    subprocess.run([sys.executable, "-c", code], stdin=its, stdout=its, cwd=ROOT, env=environment, check=True)
    os.close(its)
    shown = b""
    with contextlib.suppress(OSError):  # the end of what was printed
        while part := os.read(ours, 65536):
            shown += part
    return shown.decode()


def test_errors_and_warnings_are_one_line_whatever_a_file_is_called(tmp_path):
    done = command("scripts/table.py", f"{tmp_path}/\x1b[2J\nno run")
    assert done.returncode == 2 and r"\x1b[2J\nno run is not there" in done.stderr and len(done.stderr.splitlines()) == 1
