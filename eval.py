"""Evaluates a run: python eval.py run=<run folder> [checkpoint=<file>] [data=<another set> data.root=...]

Network, image size and normalisation are the run's own; without data=... the number is the one that training ended with.
"""

from efficientconv import cli
from efficientconv.config import DataConfig
from efficientconv.engine.distributed import leave_world, start_world
from efficientconv.engine.evaluate_run import evaluate_run
from efficientconv.engine.report import result_lines
from efficientconv.validation import validate


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
