"""The HTML report in a real browser: what it draws, what its controls do, and that it asks nobody for anything."""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
import shlex
import shutil
import statistics
import subprocess
from dataclasses import replace

import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from test_table import variation

from conftest import ROOT, command
from efficientconv.engine.run_folder import RunFolder
from efficientconv.errors import UserError
from efficientconv.results.findings import findings as findings_of
from efficientconv.results.record import read_record, record_of, write_record
from efficientconv.results.report.page import page
from efficientconv.results.report.sources import FoundRun, Sources, find_sources
from efficientconv.results.times import Times, write_times
from efficientconv.text import printable
from report_pages import FLAGS, Report, browser, chromium_path, many_runs

TIER = ("tier=smoke", "trainer.epochs=2", "model.width=0.0625")


@pytest.fixture(scope="module")
def chromium():
    with browser() as found:
        yield found


@pytest.fixture(scope="module")
def outputs(chromium, tmp_path_factory, finished_run):
    """Runs of two models and seeds at tier smoke, one that diverged, one of no tier, and a folder that is damaged."""
    outputs = tmp_path_factory.mktemp("report") / "outputs"
    train = ("train.py", *TIER, f"output_root={outputs}")
    for model, seed in itertools.product("ac", (0, 1)):
        done = command(*train, f"model={model}", f"seed={seed}")
        assert done.returncode == 0, done.stderr
    assert command(*train, "model=k", "optim.lr=1e30").returncode == 3
    shutil.copytree(finished_run, outputs / "free")
    (outputs / "damaged").mkdir()
    (outputs / "damaged" / "config.yaml").write_text("{")
    return outputs


@pytest.fixture(scope="module")
def file(outputs):
    file = outputs.parent / "report.html"
    done = command("scripts/report.py", outputs, "--output", file)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines() == [f"warning: {outputs}/damaged is left out: {_damage(outputs)}"]
    return file


@pytest.fixture
def report(chromium, file):
    report = Report(chromium, file)
    yield report
    assert report.problems == [] and report.requests == [file.as_uri()]
    report.page.close()


def _damage(outputs):
    return f"{outputs}/damaged/config.yaml cannot be read; the run folder is damaged"


def _folders(outputs, model):
    return sorted(outputs.glob(f"smoke/{model}-*"))


def _summaries(outputs, model, key):
    return [RunFolder(folder).summary()[key] for folder in _folders(outputs, model)]


def by_name(means):
    """The marks of a trace of plotly.js."""
    spreads = means["error_y"]["array"]
    marks = zip(means["text"], means["x"], means["y"], spreads)
    return {name: {"x": x, "y": y, "spread": spread} for name, x, y, spread in marks}


def test_it_says_what_it_is_made_of_and_what_was_left_out(report, outputs):
    assert f"from {outputs}" in report.page.inner_text("#made")
    assert report.page.inner_text("#states").split() == ["1", "diverged", "5", "done"]
    report.page.click("#warnings summary")
    assert report.page.inner_text("#warnings li").endswith(_damage(outputs))


def test_marks_are_means_over_seeds_and_bars_their_deviation(report, outputs):
    _, front, singles, means = report.traces("cost-chart")
    assert sorted(means["text"]) == ["A", "C"] and len(singles["x"]) == 4
    for model in "ac":
        accuracies, mark = _summaries(outputs, model, "top1_percent"), by_name(means)[model.upper()]
        assert mark["y"] == pytest.approx(statistics.mean(accuracies))
        assert mark["spread"] == pytest.approx(statistics.stdev(accuracies))
        assert mark["x"] == pytest.approx(_summaries(outputs, model, "macs")[0] / 1e6)


def test_the_front_is_what_no_other_mark_matches(report):
    _, front, _, means = report.traces("cost-chart")
    marks = list(zip(means["x"], means["y"]))
    unmatched = [(x, y) for x, y in marks if not any((u, v) != (x, y) and u <= x and v >= y for u, v in marks)]
    assert sorted(zip(front["x"], front["y"])) == sorted(unmatched)


def test_cost_may_be_the_time_that_the_runs_measured(report, outputs):
    report.page.select_option("#cost-x", "ms_per_image")
    means = by_name(report.traces("cost-chart")[-1])
    for model in "ac":
        assert means[model.upper()]["x"] == pytest.approx(statistics.mean(_summaries(outputs, model, "ms_per_image")))
    assert "measured by each run at its end" in report.page.locator("#cost-chart .xtitle").text_content()


def test_the_papers_points_come_on_request_in_a_panel_of_their_own(report):
    assert report.page.is_hidden("#paper-panel")
    before = report.traces("cost-chart")
    report.page.check("#show-paper")
    (paper,) = report.traces("paper-chart")
    assert paper["y"][paper["text"].index("A")] == pytest.approx(100 - 30.67)
    assert "ImageNet: from memory, unchecked" in report.page.inner_text("#paper-panel")
    assert [(trace["x"], trace["y"]) for trace in report.traces("cost-chart")] == [(t["x"], t["y"]) for t in before]


def test_filters_show_what_they_name(report):
    report.show("runs")
    names = lambda: {row[0][0] + row[4] for row in report.rows("#run-table")}  # noqa: E731  model and seed
    assert names() == {"a0", "a1", "c0", "c1", "k0"}
    assert report.options("#tier") == ["all tiers", "no tier", "smoke"] and report.page.input_value("#tier") == "smoke"
    report.page.select_option("#model", "c")
    assert names() == {"c0", "c1"} and report.page.inner_text("#count") == "2 of 6 runs"
    report.page.fill("#words", "s1")
    assert names() == {"c1"}
    report.page.fill("#words", "optim.lr=1e+30")
    report.page.select_option("#model", "*")
    assert names() == {"k0"}
    report.page.fill("#words", "")
    report.page.select_option("#tier", "no tier")
    assert [row[0] for row in report.rows("#run-table")] == ["free"]
    report.page.select_option("#tier", "smoke")
    report.page.select_option("#model", "a")
    report.page.select_option("#tier", "no tier")  # it has no run of A
    assert report.page.input_value("#model") == "*" and [row[0] for row in report.rows("#run-table")] == ["free"]
    report.show("cost")
    assert len(report.traces("cost-chart")[-1]["x"]) == 1


def test_a_filter_that_leaves_nothing_says_so(report):
    for section in ("compare", "cost"):
        report.show(section)
    report.page.fill("#words", "no such run")
    assert report.page.inner_text("#count") == "0 of 6 runs"
    assert report.page.locator("#cost-chart .annotation").text_content() == "None of these runs is finished."
    report.show("compare")
    assert report.traces("compare-chart") == [] and report.rows("#compare-tables") == []


def test_tiers_shown_together_are_told_apart(report):
    report.page.select_option("#tier", "*")
    named = [trace for trace in report.traces("cost-chart") if trace["mode"] == "markers+text"]
    assert sorted(trace["name"] for trace in named) == ["no tier, digits", "smoke, digits"]
    assert len({trace["marker"]["symbol"] for trace in named}) == 2
    legend = [trace for trace in report.traces("cost-chart") if trace["showlegend"]]
    assert {t["name"]: t["marker"]["symbol"] for t in legend} == {t["name"]: t["marker"]["symbol"] for t in named}
    colours = {trace["marker"]["color"] for trace in legend}
    assert len(colours) == 1 and not colours & {hue for trace in named for hue in trace["marker"]["line"]["color"]}


@pytest.mark.parametrize(("width", "names"), [(390, "KM"), (1400, "AKM")])
def test_a_narrow_chart_names_only_the_marks_of_the_front(width, names, chromium, finished_run, tmp_path):
    for i, (model, macs, top1) in enumerate((("a", 10**9, 50.0), ("k", 10**6, 60.0), ("m", 10**8, 70.0))):
        variation(finished_run, tmp_path / "runs" / str(i), model_name=model, macs=macs, top1_percent=top1)
    file = tmp_path / "report.html"
    file.write_text(page(find_sources([tmp_path / "runs"]), []))
    report = Report(chromium, file, width=width)
    assert "".join(sorted(report.traces("cost-chart")[-1]["text"])) == names
    report.page.close()


def test_fronts_join_what_can_be_compared(chromium, finished_run, tmp_path):
    """A run of more epochs beside one of fewer: each has a front of its own, named by what differs."""
    variation(finished_run, tmp_path / "longer", epochs=15, macs=10**9, top1_percent=99.0)
    done = command("scripts/report.py", finished_run, tmp_path, "--output", tmp_path / "report.html")
    assert done.returncode == 0, done.stderr
    report = Report(chromium, tmp_path / "report.html")
    traces = report.traces("cost-chart")
    assert [len(trace["x"]) for trace in traces if trace["mode"] == "lines"] == [1, 1]
    named = [trace["name"] for trace in traces if trace["mode"] == "markers+text"]
    assert sorted(named) == ["no tier, digits, epochs 15", "no tier, digits, epochs 2"]
    report.page.close()


def test_the_picker_chooses_the_curves(report, outputs):
    """A curve is the mean over a configuration's seeds, in a band of one standard deviation; or each run has its own."""
    report.show("curves")
    report.page.click("#pick-none")
    assert report.traces("curve-chart") == []
    folders = _folders(outputs, "c")
    report.page.fill("#picker-search", "c-digits")
    assert [label.split()[0] for label in report.page.locator("#picker-list label").all_inner_texts()] == ["C,"]
    report.page.check("#picker-list input")
    report.page.select_option("#curve-metric", "train_loss")
    band, curve = report.traces("curve-chart")
    losses = [[record["train_loss"] for record in record_of(RunFolder(folder)).metrics] for folder in folders]
    means, spreads = ([of(epoch) for epoch in zip(*losses)] for of in (statistics.mean, statistics.stdev))
    assert curve["x"] == [1, 2] and curve["y"] == pytest.approx(means, rel=1e-4)
    upper = [mean + spread for mean, spread in zip(means, spreads)]
    lower = [mean - spread for mean, spread in zip(means, spreads)]
    assert band["y"] == pytest.approx([*upper, *reversed(lower)], rel=1e-4)
    report.page.check("#curve-single")
    singles = {trace["name"]: trace["y"] for trace in report.traces("curve-chart")}
    assert singles == {folder.name: pytest.approx(values, rel=1e-4) for folder, values in zip(folders, losses)}
    report.page.fill("#picker-search", "")
    report.page.uncheck("#curve-single")
    report.page.click("#pick-listed")
    named = [trace for trace in report.traces("curve-chart") if trace["name"]]
    assert len(named) == 2  # the third has diverged before its first record


def test_a_diverged_run_is_shown_with_its_reason(report):
    report.show("unfinished")
    ((name, state, epochs, reason),) = report.rows("#unfinished-table")
    assert name.startswith("k-digits") and (state, epochs) == ("diverged", "0") and "is not finite" in reason


def test_two_runs_are_compared_by_what_differs(report, outputs):
    report.show("compare")
    runs = [f"{folder.name} (smoke, done)" for folder in _folders(outputs, "c")]
    for select, run in zip(("#compare-a", "#compare-b"), runs):
        report.page.select_option(select, label=run)
    assert report.rows("#compare-config") == [["seed", "0", "1"]]
    top1 = {row[0]: row[1:] for row in report.rows("#compare-summary")}["top-1 %"]
    assert top1 == [f"{value:.2f}" for value in _summaries(outputs, "c", "top1_percent")]
    assert len(report.traces("compare-chart")) == 2
    report.page.check("#compare-all")
    assert ["optim.lr", "0.1", "0.1"] in report.rows("#compare-config")
    assert "packages.torch" in {row[0] for row in report.rows("#compare-environment")}


def test_rows_sort_from_the_keyboard(report):
    report.show("runs")
    button = report.page.locator("#run-table th button", has_text="top-1 %")
    for order in (False, True):
        button.press("Enter")
        accuracies = [float(row[7]) for row in report.rows("#run-table") if row[7]]
        assert len(accuracies) == 4 and accuracies == sorted(accuracies, reverse=order)


def test_any_figure_against_any_setting(report):
    """Only costs have fronts."""
    report.page.select_option("#tier", "*")
    assert report.page.is_checked("#cost-log")
    report.page.select_option("#cost-x", "model.width")
    report.page.select_option("#cost-y", "train_seconds")
    assert report.page.is_checked("#cost-log")
    means = [trace for trace in report.traces("cost-chart") if trace["mode"] == "markers+text"]
    assert {x for trace in means for x in trace["x"]} == {0.0625, 0.125}
    assert all(trace["x"] == [] for trace in report.traces("cost-chart") if trace["mode"] == "lines")


def test_configurations_are_grouped_and_show_only_what_differs(report, outputs):
    report.show("configurations")
    head = report.page.locator("#configuration-table th").all_inner_texts()
    assert head == ["model", "lr", "n", "top-1 %", "M MACs", "ms per image", "ms per image, of limit"]
    rows = {row[0]: row for row in report.rows("#configuration-table")}
    accuracies = _summaries(outputs, "c", "top1_percent")
    spread = f"{statistics.mean(accuracies):.2f} ± {statistics.stdev(accuracies):.2f}"
    assert rows["C"][1:4] == ["0.1", "2", spread] and rows["K"][1:4] == ["1e+30", "0 of 1", ""]
    lines = list(csv.reader(io.StringIO(report.saved("[data-csv=configurations]"))))
    assert lines[0][:4] == ["model", "lr", "n", "top-1 %"] and float(lines[1][1]) > 0
    saved = {line[0]: line for line in lines}
    assert float(saved["C"][3]) == pytest.approx(statistics.mean(accuracies))
    assert float(saved["C"][-1]) == pytest.approx(statistics.stdev(accuracies))


def test_a_point_and_a_row_open_their_configuration(report, outputs):
    report.show("configurations")
    report.page.locator("#configuration-table .opener", has_text="A").press("Enter")
    assert report.page.inner_text("#details-title") == "Model A on digits, smoke"
    names = {row[0] for row in report.rows("#details-body")}
    assert names == {folder.name for folder in _folders(outputs, "a")}
    assert {trace["name"] for trace in report.traces("details-chart")} == names
    report.page.keyboard.press("Escape")
    assert report.page.is_hidden("#details")
    report.page.locator("#cost-chart").scroll_into_view_if_needed()
    mark = report.page.locator("#cost-chart .scatterlayer .trace:last-child .point").first.bounding_box()
    report.page.mouse.click(mark["x"] + mark["width"] / 2, mark["y"] + mark["height"] / 2)
    report.page.wait_for_selector("#details[open]")
    assert report.page.inner_text("#details-title") in ("Model A on digits, smoke", "Model C on digits, smoke")


def test_what_was_chosen_stands_in_the_address(chromium, file, report, outputs):
    report.page.select_option("#model", "c")
    report.page.fill("#words", "s0")
    report.page.select_option("#cost-x", "params")
    report.page.uncheck("#cost-log")
    report.show("curves")
    report.page.click("#pick-none")
    report.page.check("#picker-list input")
    report.show("compare")
    report.show("configurations")
    report.page.locator("#configuration-table .opener").press("Enter")
    other = Report(chromium, file, choices="#" + report.page.url.partition("#")[2])
    other.page.wait_for_selector("#details[open]")
    other.page.keyboard.press("Escape")
    assert [other.page.input_value(id) for id in ("#tier", "#model", "#words", "#cost-x")] == ["smoke", "c", "s0", "params"]
    assert not other.page.is_checked("#cost-log") and other.page.inner_text("#count") == "1 of 6 runs"
    other.show("curves")
    assert other.page.locator("#picker-list input:checked").count() == 1
    assert other.problems == []
    other.page.close()


def test_searches_show_what_the_settings_do_and_the_best_so_far(report, outputs):
    assert report.page.is_visible("#search")  # the rate of K differs
    report.page.select_option("#tier", "*")
    report.show("search")
    best, runs = report.traces("best-chart")
    assert len(runs["y"]) == 5 and best["y"] == [max(runs["y"][: i + 1]) for i in range(5)]
    lines = report.traces("parallel-chart")
    assert len(lines) == 3 and all(0 <= y <= 1 for line in lines for y in line["y"])
    report.page.select_option("#model", "a")
    assert report.page.is_hidden("#search")


def test_trials_of_a_search_are_shown_by_what_they_held_out(chromium, finished_run, tmp_path):
    """Three that ended as trials do, without a look at the test images; the pruned one says nothing of its setting."""
    folder = RunFolder(finished_run)
    record, facts = record_of(folder), folder.facts()
    runs, ended = [], [(0.1, 40.0, "trained"), (0.2, 60.0, "finished"), (0.4, 50.0, "finished"), (0.8, 90.0, "pruned")]
    for i, (lr, accuracy, state) in enumerate(ended):
        config = record.config | {"optim": record.config["optim"] | {"lr": lr}}
        metrics = [record.metrics[-1] | {"val_top1_percent": accuracy}]
        trial = replace(record, run=f"trial{i}", state=state, config=config, summary={}, metrics=metrics)
        runs.append(FoundRun(trial, finished_run, f"2026-01-0{i + 1}", facts))
    file = tmp_path / "search.html"
    file.write_text(page(Sources(runs), []))
    report = Report(chromium, file)
    assert [report.page.input_value(axis) for axis in ("#cost-x", "#cost-y")] == ["optim.lr", "best_val_top1_percent"]
    means = report.traces("cost-chart")[-1]
    assert dict(zip(means["x"], means["y"])) == {0.1: 40.0, 0.2: 60.0, 0.4: 50.0}
    report.show("search")
    assert report.page.input_value("#search-figure") == "best_val_top1_percent"
    assert sorted(line["y"][-1] for line in report.traces("parallel-chart")) == [0.0, 0.5, 1.0]
    assert report.traces("best-chart")[0]["y"] == [40.0, 60.0, 60.0]
    report.show("configurations")
    head = report.page.locator("#configuration-table th").all_inner_texts()
    assert head == ["model", "lr", "n", "best held-out top-1 %", "M MACs"]
    macs = f"{facts['macs'] / 1e6:.2f}"
    assert report.rows("#configuration-table") == [
        ["C", "0.1", "1", "40.00", macs], ["C", "0.2", "1", "60.00", macs], ["C", "0.4", "1", "50.00", macs],
        ["C", "0.8", "0 of 1", "", macs],
    ]  # fmt: skip
    report.show("unfinished")
    assert [row[0] for row in report.rows("#unfinished-table")] == ["trial0", "trial3"]
    assert report.problems == []
    report.page.close()


def test_values_on_an_axis_of_a_search_do_not_overlap(chromium, finished_run, tmp_path):
    record, runs = record_of(RunFolder(finished_run)), []
    for rate in (0.1, 0.1001, 0.1002, 0.15, 0.1999, 0.2):
        config = record.config | {"optim": record.config["optim"] | {"lr": rate}}
        runs.append(FoundRun(replace(record, run=f"rate {rate}", config=config), finished_run))
    file = tmp_path / "search.html"
    file.write_text(page(Sources(runs), []))
    report = Report(chromium, file)
    report.show("search")
    boxes = [text.bounding_box() for text in report.page.locator("#parallel-chart .annotation-text-g").all()]
    written = report.page.locator("#parallel-chart .annotation").all_text_contents()
    assert written[:3] == ["0.1", "0.15", "0.2"]
    for one, other in itertools.combinations(boxes, 2):
        sides = [(one[at], one[of], other[at], other[of]) for at, of in (("x", "width"), ("y", "height"))]
        assert not all(low < far + size and far < low + own for low, own, far, size in sides)
    report.page.close()


def test_charts_can_be_taken_away(report):
    svg = report.saved("[data-svg=cost-chart]")
    assert svg.startswith("<svg") and "top-1 % on the test images" in svg


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1400])
def test_everybody_can_use_it(chromium, outputs, tier_folder, tmp_path, width, scheme):
    """axe-core finds nothing, at both widths, light and dark, with a configuration open and closed; nothing is cut off."""
    assert command("scripts/report.py", outputs, tier_folder, "--output", tmp_path / "report.html").returncode == 0
    report = Report(chromium, tmp_path / "report.html", scheme, width)
    for section in ("configurations", "curves", "runs", "unfinished", "compare", "tables"):
        report.show(section)
    assert findings(report) == []
    assert report.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    report.page.locator("#configuration-table .opener").first.press("Enter")
    assert findings(report) == []
    report.page.close()


def findings(report):
    found = Axe().run(report.page).response["violations"]
    return [(rule["id"], node["target"], node["failureSummary"]) for rule in found for node in rule["nodes"]]


def test_paper_is_light_and_shows_everything(chromium, file):
    report = Report(chromium, file, scheme="dark")
    report.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    report.page.emulate_media(media="print")
    assert report.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(252, 252, 250)"
    assert report.page.is_hidden("#bar") and len(report.rows("#run-table")) == 5
    assert report.page.locator("#runs").get_attribute("aria-busy") == "false"
    report.page.evaluate("dispatchEvent(new Event('afterprint'))")
    report.page.emulate_media(media="screen")
    assert report.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 21, 23)"
    report.page.close()


def test_the_command_of_the_docs_takes_the_picture(file, tmp_path):
    text = (ROOT / "docs/compare.md").read_text().replace("\\\n", "")
    (line,) = re.findall("^chromium (.+)$", text, flags=re.MULTILINE)
    picture = tmp_path / "report.png"
    line = line.replace("$PWD/report.html", str(file)).replace("results/report.png", str(picture))
    subprocess.run([chromium_path(), *FLAGS, *shlex.split(line)], check=True, timeout=120)
    assert Image.open(picture).size == (1200, 1700)


def test_dark_where_the_reader_wants_it_dark(chromium, file, report):
    dark = Report(chromium, file, scheme="dark")
    shades = [it.page.evaluate("getComputedStyle(document.body).backgroundColor") for it in (report, dark)]
    colours = [it.traces("cost-chart")[-1]["marker"]["line"]["color"] for it in (report, dark)]
    assert shades == ["rgb(252, 252, 250)", "rgb(20, 21, 23)"] and colours[0] != colours[1]
    dark.page.close()


@pytest.fixture
def tier_folder(outputs, tmp_path):
    """results/smoke as reproduce.py leaves it: records, times measured together, a table and its verdicts, kernels."""
    folder = tmp_path / "results" / "smoke"
    for run in _folders(outputs, "[ac]"):
        write_record(record_of(RunFolder(run)), folder / "runs")
    measured = (("a", 3.5), ("c", 1.25))
    write_times(folder, [Times(model, 0.0625, 64, ms, 0.1, None, None, None, None, "a CPU") for model, ms in measured])
    (folder / "table2.csv").write_text(
        "row,stages,top1_mean_percent,top1_std,top1_low,top1_high,n,difference_points,difference_low,difference_high,macs,note\n"
        'a,standard,9.5,0.5,9,10,2,,,,14024832,\nc,SIC,82,,,,1,+72.5,+71.5,+73.5,1530368,\nk,"<b>x</b>",,,,,0,,,,2000000,\n'
    )
    (folder / "claims2.csv").write_text(
        "row,than,at_equal,sentence,verdict,difference_points,low,high,why\n"
        "c,a,,SIC is better,supported,0.4,0.1,0.7,p = 0.03\nl,resnet18,,more is better,undecided,,,,not run for both\n"
        "c@2e6,a,macs,SIC is better at 2 M MACs,undecided,0.2,-0.1,0.5,p = 0.1\n"
    )
    (folder / "table_odd.csv").write_text("model,says\na <b> c,'=1+1\n")
    shutil.copy("results/benchmark_models.png", folder / "kernels_c.png")
    return folder


def test_a_picture_that_cannot_be_read_is_named_and_left_out(tmp_path):
    (tmp_path / "kernels.png").mkdir()
    sources = Sources(tier_folders=[tmp_path])
    page(sources, [])
    assert sources.warnings == [
        f"{tmp_path}/kernels.png is left out: {tmp_path}/kernels.png is a folder where a file is expected; remove it"
    ]


def test_what_lies_beside_records_is_shown_with_them(chromium, outputs, tier_folder, tmp_path):
    done = command("scripts/report.py", outputs, tier_folder.parent, "--output", tmp_path / "report.html")
    assert done.stdout.startswith(f"{tmp_path / 'report.html'}: 6 runs")  # each once, found in two places
    report = Report(chromium, tmp_path / "report.html")
    report.page.select_option("#cost-x", "ms_per_image")
    assert {name: mark["x"] for name, mark in by_name(report.traces("cost-chart")[-1]).items()} == {"A": 3.5, "C": 1.25}
    assert "measured all networks together" in report.page.locator("#cost-chart .xtitle").text_content()
    assert "smoke/latency.csv: a CPU, batches of 64" in report.page.inner_text("#cost-note")
    report.show("tables")
    titles = ["Table 2: Standard, unravelled and SIC layers smoke/table2.csv", "table_odd smoke/table_odd.csv"]
    assert report.page.locator("#tables h3").all_inner_texts() == titles
    a = ["a", "standard", "9.50 ± 0.50 (2)", "", "9.00 to 10.00", "14.02"]
    c, k = ["c", "SIC", "82.00 (1)", "+72.50 (+71.50 to +73.50)", "", "1.53"], ["k", "<b>x</b>", *[""] * 3, "2.00"]
    assert report.rows("#tables") == [a, c, k, ["a <b> c", "=1+1"]]
    for title, order in (("M MACs", [c, k, a]), ("ours: top-1 %", [a, c, k]), ("against a, points", [c, a, k])):
        report.page.click(f"#tables button:text-is('{title}')")
        assert report.rows("#tables")[:3] == order
    kinds = [title.partition(":")[0] for title in report.page.locator("#claims h3").all_inner_texts()]
    assert kinds == ["At equal cost", "At equal width"]
    counts = report.page.locator("#claims .counts li").all_inner_texts()
    assert counts == ["0 more accurate", "0 less accurate", "1 undecided", "1 supported", "0 contradicted", "0 undecided"]
    _, tested = report.page.locator("#claims .claims li").all_inner_texts()
    assert tested.split("\n") == ["supported", "SIC is better C against A", "+0.40 +0.10 to +0.70"]
    assert report.page.inner_text("#claims .note").endswith("1 further claim has no runs here.")
    assert report.page.locator("#claims .claims >> nth=0").evaluate("list => getComputedStyle(list).overflowY") == "auto"
    report.page.click("#claims summary >> nth=1")
    assert report.page.inner_text("#claims .claims p >> nth=1") == "p = 0.03; tier smoke."
    report.page.locator("#kernels h2").scroll_into_view_if_needed()
    assert report.page.evaluate("document.querySelector('#kernels img').naturalWidth") > 0
    assert report.problems == [] and report.requests == [(tmp_path / "report.html").as_uri()]
    report.page.close()


def test_the_claims_are_the_lines_of_the_readme(chromium, tmp_path):
    """A line for each model, kind of cost and verdict, with the README's words; its comparisons open at a click."""
    tier, file = ROOT / "results/cifar_small", tmp_path / "report.html"
    file.write_text(page(find_sources([tier / "runs"]), []))
    report = Report(chromium, file)
    shown = [
        (line.locator(".verdict").inner_text(), *line.locator(".number > *").all_inner_texts())
        for line in report.page.locator("#claims .claims >> nth=0").locator("li").all()
    ]
    lines = [line.split(" | ") for line in findings_of(tier).splitlines() if line.endswith("** |")]
    said = [(line[-1].strip("* |"), *line[-2].strip(")").split(" (")) for line in lines if len(line) == 5]
    assert shown == said and len(shown) == 7
    counted = ", ".join(report.page.locator("#claims .counts >> nth=0").locator("li").all_inner_texts())
    assert f"19 comparisons: {counted}." in findings_of(tier)
    report.page.click("#claims summary >> nth=0")
    assert report.page.locator("#claims details >> nth=0").locator("p").count() == 5
    assert report.page.inner_text("#claims p >> nth=0").startswith("SIC layers (C) are more accurate than standard ones")
    report.page.close()


def test_two_runs_have_the_times_of_the_table_of_configurations(chromium, outputs, tier_folder, tmp_path):
    assert command("scripts/report.py", outputs, tier_folder, "--output", tmp_path / "report.html").returncode == 0
    report = Report(chromium, tmp_path / "report.html")
    report.show("configurations")
    head = report.page.locator("#configuration-table th").all_inner_texts()
    table = {row[0]: dict(zip(head, row)) for row in report.rows("#configuration-table")}
    report.show("compare")
    for select, model in zip(("#compare-a", "#compare-b"), "ac"):
        report.page.select_option(select, label=f"{_folders(outputs, model)[0].name} (smoke, done)")
    pair = {row[0]: row[1:] for row in report.rows("#compare-summary")}
    assert pair["ms per image"] == [table[model]["ms per image"] for model in "AC"] == ["3.5", "1.25"]
    assert pair["M MACs"] == [table[model]["M MACs"] for model in "AC"]
    assert not {"ms_per_image", "macs", "top1_percent"} & set(pair), "figures have titles, not names"
    report.page.close()


def test_settings_that_earlier_versions_did_not_have_differ_in_no_record(chromium, tmp_path):
    """Records of several versions: a setting that one lacks has the default there."""
    file = tmp_path / "report.html"
    assert command("scripts/report.py", ROOT / "results/cifar_small/runs", "--output", file).returncode == 0
    report = Report(chromium, file)
    report.show("configurations")
    assert report.page.locator("#configuration-table th").all_inner_texts()[:3] == ["model", "width", "n"]
    report.page.close()


def test_what_the_name_of_a_part_implies_is_no_column(chromium, finished_run, tmp_path):
    record = record_of(RunFolder(finished_run))
    schedules = [{"name": "onecycle"}, {"name": "step", "decay_every_epochs": 1, "decay_factor": 0.1}]
    runs = [replace(record, run=f"run{i}", config=record.config | {"schedule": it}) for i, it in enumerate(schedules)]
    file = tmp_path / "report.html"
    file.write_text(page(Sources([FoundRun(run, finished_run) for run in runs]), []))
    report = Report(chromium, file)
    report.show("configurations")
    assert report.page.locator("#configuration-table th").all_inner_texts()[:3] == ["model", "schedule", "n"]
    assert [row[1] for row in report.rows("#configuration-table")] == ["onecycle", "step"]
    report.page.close()


def test_of_two_places_a_run_is_taken_from_the_one_where_it_is_done(tmp_path, finished_run):
    unfinished = tmp_path / "runs" / "b" / "c"
    shutil.copytree(finished_run, unfinished)
    (unfinished / "summary.json").unlink()
    (unfinished / "status.json").write_text('{"state": "running", "heartbeat": "2026-01-02T03:04:05+00:00"}')
    for places in ([finished_run, unfinished], [unfinished, finished_run]):
        assert [run.path for run in find_sources(places).runs] == [finished_run]
    write_record(record_of(RunFolder(unfinished)), tmp_path / "runs")
    (run,) = find_sources([unfinished, tmp_path / "runs"]).runs  # neither is done: the first
    assert run.path == unfinished and run.record.reason == "last sign of life 2026-01-02T03:04:05+00:00"


def test_records_come_by_model_and_width(tmp_path, finished_run):
    record = record_of(RunFolder(finished_run))
    for model, width in (("c", 0.5), ("c", 0.125), ("a", 0.25), ("c", 0.25)):
        config = record.config | {"model": record.config["model"] | {"name": model, "width": width}}
        summary = record.summary | {"model_name": model, "width": width}
        write_record(replace(record, run=f"{model}{1 - width}", config=config, summary=summary), tmp_path / "runs")
    found = [(run.record.model, run.record.config["model"]["width"]) for run in find_sources([tmp_path / "runs"]).runs]
    assert found == [("a", 0.25), ("c", 0.125), ("c", 0.25), ("c", 0.5)]


def test_names_are_data_whatever_they_hold(chromium, tier_folder, tmp_path):
    path = next(tier_folder.glob("runs/c-*"))
    values = json.loads(path.read_text())
    evil = "</script><img src=x onerror=\"document.title='taken'\"><b>"
    formula = "=1+1\a\n\t\x9f\xa0\u202e\U000e0001\ud800 é名"
    for file, name in ("evil", evil), ("formula", formula):
        (tier_folder / "runs" / f"{file}.json").write_text(json.dumps(values | {"run": name}))
    done = command("scripts/report.py", tier_folder, "--output", tmp_path / "report.html")
    assert done.returncode == 0, done.stderr
    report = Report(chromium, tmp_path / "report.html")
    for section in ("curves", "runs", "unfinished", "compare", "tables"):
        report.show(section)
    assert evil in [row[0] for row in report.rows("#run-table")]
    saved = csv.DictReader(io.StringIO(report.saved("[data-csv=runs]")))
    assert f"'{printable(formula)}" in [row["run"] for row in saved]
    assert report.page.title() == "Efficient convolutional layers: runs" and report.problems == []
    report.page.close()


def test_mistakes_are_one_line(tmp_path):
    done = command("scripts/report.py", tmp_path / "nowhere", "--output", tmp_path / "report.html")
    assert done.returncode == 2 and "is not there" in done.stderr and len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "report.html").exists()
    with pytest.raises(UserError, match="no run was found"):
        find_sources([tmp_path])


@pytest.mark.slow
def test_thousands_of_runs_fit_and_answer(chromium, tier_folder, tmp_path):
    record = read_record(next(tier_folder.glob("runs/a-*")))
    runs = [FoundRun(record, tmp_path) for record in many_runs(record, 3000, epochs=100)]
    file = tmp_path / "report.html"
    file.write_text(page(Sources(runs), ["many"]))
    assert file.stat().st_size < 40e6
    report = Report(chromium, file)
    assert len(report.traces("cost-chart")[-1]["x"]) == 300  # ten models at thirty rates
    report.page.fill("#words", "lr=0.05")
    assert report.page.inner_text("#count") == "100 of 3000 runs"
    report.page.select_option("#model", "d")
    report.show("curves")
    report.page.click("#pick-none")
    report.page.click("#pick-listed")
    band, curve = report.traces("curve-chart")
    assert len(curve["y"]) == 100 and len(band["y"]) == 200
    report.show("runs")
    report.page.fill("#words", "")
    report.page.select_option("#model", "*")
    assert len(report.rows("#run-table")) == 200
    report.page.click("#all-runs")
    assert len(report.rows("#run-table")) == 3000
    assert report.problems == []
    report.page.close()
