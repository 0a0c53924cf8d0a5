"""Sentences about the measurements on a GPU, made from the rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from operator import itemgetter

from efficientconv.gpu_day.report.measured_steps import IN_REFERENCE, IN_TRITON, MeasuredStep
from efficientconv.gpu_day.report.operations import share
from efficientconv.results.table import grouped
from efficientconv.roofline.expect import BASELINE
from efficientconv.roofline.machine import Machine
from efficientconv.roofline.measured import BY_COMPILE_MODE
from efficientconv.text import interval

KINDS = {"batch norm": "batch_norm", "max pools": "max_pool"}  # parts of the names of kernels
SLOW = 3  # slow operations that are named


def reading(rows: Mapping[str, Sequence[dict]], steps: Sequence[MeasuredStep], machine: Machine | None) -> list[str]:
    """The sentences about the measurements. `rows` are by stage."""
    found = [
        _arithmetic(steps), *_runs(steps), _operations(rows.get("operations", ()), machine),
        *_profiles(rows.get("profiles", ())), _triton(rows.get("triton_layers", ())), _settings(rows.get("settings", ())),
        *_inference(rows.get("inference", ())), _correctness(rows.get("against_cpu", ())), _twice(rows.get("twice", ())),
    ]  # fmt: skip
    return [sentence for sentence in found if sentence]


def verdict(steps: Sequence[MeasuredStep]) -> str:
    """Whether the layers train faster than standard layers, of which models, and which models do, run in which ways."""
    compared = [step for step in steps if step.over_a and step.model != BASELINE]
    models = ", ".join(sorted({step.model.upper() for step in compared}))
    faster = [f"{step.model.upper()} ({step.run})" for step in compared if step.over_a < 1]
    if not faster:
        return f"none of the measured models ({models}) trains faster than A"
    return f"of the measured models ({models}) only these train faster than A: {', '.join(faster)}"


def of_c(steps: Sequence[MeasuredStep]) -> str:
    """The time of C's step over the time of A's step, for each way of running."""
    found = [step for step in steps if (step.model, step.layout) == ("c", "imagenet") and step.over_a]
    times = ", ".join(f"{step.over_a:.2f} ({step.run})" for step in found)
    return f"a step of C has {found[0].macs_over_a:.2f} of A's MACs and takes these multiples of A's time: {times}"


def _arithmetic(steps: Sequence[MeasuredStep]) -> str:
    eager = [s for s in steps if (s.run, s.layout) == ("eager", "imagenet") and s.model != BASELINE and s.over_a]
    if not eager:
        return ""
    faster = [s.model.upper() for s in eager if s.over_a < 1]
    some = f"faster than A: {', '.join(faster)}" if faster else "none is faster than A"
    does = "follows" if len(faster) == len(eager) else "does not follow"
    return (
        f"**Measured time {does} arithmetic.** A step of {', '.join(s.model.upper() for s in eager)} has "
        f"{_range([s.macs_over_a for s in eager])} of A's MACs and takes {_range([s.over_a for s in eager])} of A's time "
        f"(eager, layout imagenet); {some}."
    )


def _runs(steps: Sequence[MeasuredStep]) -> list[str]:
    """The gains by compiling, CUDA graphs and Triton, each within one commit, and C's time with each."""
    by_run: dict[tuple[str, str], dict[str, MeasuredStep]] = defaultdict(dict)
    for step in steps:
        by_run[step.layout, step.run][step.model] = step
    found = []
    for layout in dict.fromkeys(step.layout for step in steps):
        eager = by_run[layout, "eager"]
        for run in BY_COMPILE_MODE.values():
            plain, in_triton = by_run[layout, run], by_run[layout, run + IN_TRITON]
            if run != "eager":
                found.append(_gain(layout, run, "eager", eager, plain))
            found.append(_gain(layout, run + IN_TRITON, run, by_run[layout, run + IN_REFERENCE] | plain, in_triton))
    return found


def _gain(layout: str, run: str, slower: str, before: Mapping[str, MeasuredStep], found: Mapping[str, MeasuredStep]) -> str:
    like = {name: step for name, step in before.items() if name in found and step.commit == found[name].commit}
    gains = [f"{name.upper()} {step.ms / found[name].ms:.2f}" for name, step in like.items()]
    c = found.get("c")
    beside = f"; C then takes {c.over_a:.2f} of A's time with {c.macs_over_a:.2f} of A's MACs" if c and c.over_a else ""
    return f"Layout {layout}: the speed of `{run}` over that of `{slower}`: {', '.join(gains)}{beside}." if gains else ""


def _operations(rows: Sequence[dict], machine: Machine | None) -> str:
    reached = {row["operation"]: (share(row, machine), row) for row in rows if row["precision"] == "bf16"}
    known = sorted((s, name, row) for name, (s, row) in reached.items() if s is not None)
    slow = [f"{name} {s:.0%} ({row['gb_per_s']:,.0f} GB/s)" for s, name, row in known[:SLOW]]
    if not slow:
        return ""
    copy = f"; a copy reaches {reached['copy'][1]['gb_per_s']:,.0f} GB/s" if "copy" in reached else ""
    return f"These operations reach the smallest shares of the limit (bf16): {', '.join(slow)}{copy}."


def _profiles(rows: Sequence[dict]) -> list[str]:
    sentences = []
    for model, kernels in grouped(rows, itemgetter("model")).items():
        shares = {kind: sum(row["percent"] for row in kernels if part in row["kernel"]) for kind, part in KINDS.items()}
        told = ", ".join(f"{kind} {percent:.0f} %" for kind, percent in shares.items())
        sentences.append(f"Shares of the time of {model.upper()}'s kernels, at least: {told}.")
    return sentences


def _triton(rows: Sequence[dict]) -> str:
    """The sentences about one layer, forward and backward together."""
    sums: dict[tuple, float] = defaultdict(float)
    for row in rows:
        for key in ("ms_of_kernels", "ms"):
            sums[row["model"], row["backend"], key] += row[key]
    models = [model for model, backend, key in sums if (backend, key) == ("triton", "ms")]
    kernels, calls = (
        ", ".join(f"{m.upper()} {sums[m, 'triton', key]:.2f} against {sums[m, 'reference', key]:.2f}" for m in models)
        for key in ("ms_of_kernels", "ms")
    )
    about = "One layer in Triton against plain PyTorch (backend `reference`), forward and backward, ms. The kernels alone"
    return f"{about}: {kernels}. Eager, with the launches from Python: {calls}." if models else ""


def _settings(rows: Sequence[dict]) -> str:
    """The time of a step with each setting over the time without the setting; the first row has no setting."""
    of_models = [row for row in rows if row["model"]]
    over = [f"{row['setting']} {row['ms_per_step'] / of_models[0]['ms_per_step']:.2f}" for row in of_models[1:]]
    about = "The time of a step of {} with a setting, over the time without the setting"
    return f"{about.format(of_models[0]['model'].upper())}: {', '.join(over)}." if over else ""


def _inference(rows: Sequence[dict]) -> Iterator[str]:
    for batch, of_batch in grouped(rows, itemgetter("batch")).items():
        ms = {row["model"]: row["ms_per_image"] for row in of_batch}
        over = [f"{name.upper()} {each / ms[BASELINE]:.2f}" for name, each in ms.items() if name != BASELINE]
        if over:
            yield f"Inference in fp32, {batch} image{'s' * (batch > 1)} at a time, time over A's time: {', '.join(over)}."


def _twice(rows: Sequence[dict]) -> str:
    """Whether deterministic runs had equal bits, and the cost of `trainer.deterministic`."""
    equal = all(row["equal_bits"] for row in rows)
    over = [f"{r['model'].upper()} {r['ms_per_step_deterministic'] / r['ms_per_step']:.2f}" for r in rows]
    bits = "have equal bits" if equal else "**differ in their bits**"
    about = f"Two deterministic runs {bits}. A deterministic step's time over another step's"
    return f"{about}: {', '.join(over)}." if rows else ""


def _correctness(rows: Sequence[dict]) -> str:
    if not rows:
        return ""
    wrong = [f"{row['model'].upper()} {row['precision']}" for row in rows if not row["right"]]
    those = f" (not: {', '.join(wrong)})" if wrong else ""
    most = max(row["largest_difference"] / row["cpu_rounding"] for row in rows if row["cpu_rounding"])
    return (
        f"A step agrees with the CPU's step in {len(rows) - len(wrong)} of {len(rows)} cases{those}. The largest difference "
        f"is {most:.2g} times the CPU's own rounding."
    )


def _range(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    return interval(min(known), max(known), ".2f")
