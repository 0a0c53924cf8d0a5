"""The HTML report in a real browser: what it draws, what its controls do, and that it asks nobody for anything."""

from __future__ import annotations

import itertools
import json
import shutil
import statistics

import pytest
from test_table import variation

from conftest import command
from efficientconv.engine.run_folder import RunFolder
from efficientconv.errors import UserError
from efficientconv.results.record import read_record, record_of, write_record
from efficientconv.results.report.page import page, report_data
from efficientconv.results.report.sources import Run, Sources, find_sources
from report_pages import Report, browser, many_runs

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


def test_it_says_what_it_is_made_of_and_what_was_left_out(report, outputs):
    assert f"from {outputs}" in report.page.inner_text("#made")
    assert report.page.inner_text("#states").split() == ["1", "diverged", "5", "done"]
    report.page.click("#warnings summary")
    assert report.page.inner_text("#warnings li").endswith(_damage(outputs))


def test_marks_are_means_over_seeds_and_bars_their_deviation(report, outputs):
    front, singles, means = report.traces("cost-chart")
    assert means["text"] == ["A", "C"] and len(singles["x"]) == 4
    for i, model in enumerate("ac"):
        accuracies = _summaries(outputs, model, "top1_percent")
        assert means["y"][i] == pytest.approx(statistics.mean(accuracies))
        assert means["error_y"]["array"][i] == pytest.approx(statistics.stdev(accuracies))
        assert means["x"][i] == pytest.approx(_summaries(outputs, model, "macs")[0] / 1e6)


def test_the_front_is_what_no_other_mark_matches(report):
    front, _, means = report.traces("cost-chart")
    marks = list(zip(means["x"], means["y"]))
    unmatched = [(x, y) for x, y in marks if not any((u, v) != (x, y) and u <= x and v >= y for u, v in marks)]
    assert sorted(zip(front["x"], front["y"])) == sorted(unmatched)


def test_cost_may_be_the_time_that_the_runs_measured(report, outputs):
    report.page.check("text=measured time")
    means = report.traces("cost-chart")[-1]
    assert means["x"] == pytest.approx([statistics.mean(_summaries(outputs, model, "ms_per_image")) for model in "ac"])
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
    report.page.select_option("#model", "")
    assert names() == {"k0"}
    report.page.fill("#words", "")
    report.page.select_option("#tier", "no tier")
    assert [row[0] for row in report.rows("#run-table")] == ["free"]
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
    report.page.select_option("#tier", "")
    named = [trace for trace in report.traces("cost-chart") if trace["mode"] == "markers+text"]
    assert [trace["name"] for trace in named] == ["no tier, digits", "smoke, digits"]
    assert len({trace["marker"]["line"]["color"] for trace in named}) == 2


def test_fronts_join_what_can_be_compared(chromium, finished_run, tmp_path):
    """A run of more epochs beside one of fewer: each has a front of its own, named by what differs."""
    variation(finished_run, tmp_path / "longer", epochs=15, macs=10**9, top1_percent=99.0)
    done = command("scripts/report.py", finished_run, tmp_path, "--output", tmp_path / "report.html")
    assert done.returncode == 0, done.stderr
    report = Report(chromium, tmp_path / "report.html")
    traces = report.traces("cost-chart")
    assert [len(trace["x"]) for trace in traces if trace["mode"] == "lines"] == [1, 1]
    named = [trace["name"] for trace in traces if trace["mode"] == "markers+text"]
    assert named == ["no tier, digits, epochs 2", "no tier, digits, epochs 15"]
    report.page.close()


def test_the_picker_chooses_the_curves(report, outputs):
    report.show("curves")
    report.page.click("#pick-none")
    assert report.traces("curve-chart") == []
    first, second = _folders(outputs, "c")
    report.page.fill("#picker-search", "c-digits s1")
    assert report.page.locator("#picker-list label").all_inner_texts() == [second.name]
    report.page.check(f"text={second.name}")
    report.page.select_option("#curve-metric", "train_loss")
    (curve,) = report.traces("curve-chart")
    losses = [record["train_loss"] for record in record_of(RunFolder(second)).metrics]
    assert curve["name"] == second.name and curve["x"] == [1, 2] and curve["y"] == pytest.approx(losses, rel=1e-4)
    report.page.fill("#picker-search", "c-digits")
    report.page.click("#pick-listed")
    assert [trace["name"] for trace in report.traces("curve-chart")] == [first.name, second.name]
    report.page.uncheck(f"#picker-list >> text={second.name}")
    assert [trace["name"] for trace in report.traces("curve-chart")] == [first.name]


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
    top1 = {row[0]: row[1:] for row in report.rows("#compare-summary")}["top1_percent"]
    assert [float(value) for value in top1] == pytest.approx(_summaries(outputs, "c", "top1_percent"))
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
    (folder / "latency.csv").write_text("model,ms_per_image,batch_size,measured_on\na,3.5,64,a CPU\nc,1.25,64,a CPU\n")
    (folder / "table2.csv").write_text("row,macs,note\na,4024832,\nc,1530368,\n")
    (folder / "table2.md").write_text("# Table 2: layers\n")
    (folder / "claims2.csv").write_text("sentence,verdict\nSIC is better,undecided\n")
    (folder / "table_order.md").write_text("# Order\n\n| model | top-1 % |\n|---|---|\n| a \\| c | **72 ± 1** |\n")
    shutil.copy("results/benchmark_models.png", folder / "kernels_c.png")
    return folder


def test_what_lies_beside_records_is_shown_with_them(chromium, outputs, tier_folder, tmp_path):
    done = command("scripts/report.py", outputs, tier_folder.parent, "--output", tmp_path / "report.html")
    assert done.stdout.startswith(f"{tmp_path / 'report.html'}: 6 runs")  # each once, found in two places
    report = Report(chromium, tmp_path / "report.html")
    report.page.check("text=measured time")
    assert report.traces("cost-chart")[-1]["x"] == [3.5, 1.25]
    assert "measured all networks together" in report.page.locator("#cost-chart .xtitle").text_content()
    assert "smoke/latency.csv: a CPU, batches of 64" in report.page.inner_text("#cost-note")
    report.show("tables")
    titles = ["Table 2: layers smoke/table2.csv", "Table 2: layers: what the paper claims smoke/claims2.csv"]
    assert report.page.locator("#table-list h3").all_inner_texts() == [*titles, "Order smoke/table_order.md"]
    assert report.rows("#table-list") == [
        ["a", "4,024,832"], ["c", "1,530,368"], ["SIC is better", "undecided"], ["a | c", "72 ± 1"],
    ]  # fmt: skip
    report.show("kernels")
    assert report.page.evaluate("document.querySelector('#kernels img').naturalWidth") > 0
    assert report.problems == [] and report.requests == [(tmp_path / "report.html").as_uri()]
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


def test_names_are_data_whatever_they_hold(chromium, tier_folder, tmp_path):
    path = next(tier_folder.glob("runs/c-*"))
    values = json.loads(path.read_text())
    evil = "</script><img src=x onerror=\"document.title='taken'\"><b>"
    (tier_folder / "runs" / "evil.json").write_text(json.dumps(values | {"run": evil}))
    done = command("scripts/report.py", tier_folder, "--output", tmp_path / "report.html")
    assert done.returncode == 0, done.stderr
    report = Report(chromium, tmp_path / "report.html")
    for section in ("curves", "runs", "unfinished", "compare", "tables"):
        report.show(section)
    assert evil in [row[0] for row in report.rows("#run-table")]
    assert report.page.title() == "Efficient convolutional layers: runs" and report.problems == []
    report.page.close()


def test_mistakes_are_one_line(tmp_path):
    done = command("scripts/report.py", tmp_path / "nowhere", "--output", tmp_path / "report.html")
    assert done.returncode == 2 and "is not there" in done.stderr and len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "report.html").exists()
    with pytest.raises(UserError, match="no run was found"):
        find_sources([tmp_path])


def test_a_thousand_runs_fit_and_answer(chromium, tier_folder, tmp_path):
    record = read_record(next(tier_folder.glob("runs/a-*")))
    runs = [Run(record, tmp_path) for record in many_runs(record, 1000, epochs=100)]
    file = tmp_path / "report.html"
    file.write_text(page(report_data(Sources(runs), ["many"])))
    assert file.stat().st_size < 20e6
    report = Report(chromium, file)
    assert len(report.traces("cost-chart")[-1]["x"]) == 100  # ten models at ten rates
    report.page.fill("#words", "lr=0.05")
    assert report.page.inner_text("#count") == "100 of 1000 runs"
    report.page.select_option("#model", "d")
    report.show("curves")
    report.page.click("#pick-none")
    report.page.click("#pick-listed")
    assert len(report.traces("curve-chart")) == 10 and len(report.traces("curve-chart")[0]["y"]) == 100
    assert report.problems == []
    report.page.close()
