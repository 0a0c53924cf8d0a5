"""Evaluates a run: python eval.py run=<run folder> [checkpoint=<file>] [data=<another set> data.root=...]

Network, image size and normalisation are the run's own; without data=... the number is the one that training ended with.
"""

from efficientconv.signals import leave_on_signals

if __name__ == "__main__":
    leave_on_signals()  # now: the imports take seconds

from efficientconv import cli  # noqa: E402
from efficientconv.config import DataConfig  # noqa: E402
from efficientconv.engine.distributed import leave_world, start_world  # noqa: E402
from efficientconv.engine.evaluate_run import evaluate_run  # noqa: E402
from efficientconv.engine.report import result_lines  # noqa: E402
from efficientconv.validation import validate  # noqa: E402


@cli.entry("eval")
def main(values: dict) -> None:
    data = validate(DataConfig, values["data"], where="data") if "data" in values else None
    world = start_world()
    results = evaluate_run(values["run"], values["checkpoint"], data, values["device"], world)
    if world.is_main:
        print("\n".join(result_lines(results)))
    leave_world()


if __name__ == "__main__":
    main()
