"""The commands that pip installs: efficientconv-train and efficientconv-eval. In a checkout they are train.py and eval.py.

What takes seconds to import, torch before all, is imported once signals are answered and the configuration is known to be
sound.
"""

import sys
from importlib import import_module
from types import ModuleType

from efficientconv.errors import UserError, of_extra
from efficientconv.help import answer_help
from efficientconv.signals import leave_on_signals, nothing_begun


def train() -> None:
    """efficientconv-train model=c data=cifar10 trainer.epochs=100 optim.lr=0.1 seed=0"""
    leave_on_signals(continues=True)
    answer_help("train", sweeps=True)
    cli = _cli()

    @cli.entry("train", sweeps=True)
    def main(values: dict) -> None:
        config = cli.run_config(values)
        cli.warn_of_unused([config])
        with nothing_begun():
            from efficientconv.engine import run
        run.train(config)

    main()


def evaluate() -> None:
    """efficientconv-eval run=<run folder> [checkpoint=<file>] [data=folder data.root=<images of its classes>]"""
    leave_on_signals()
    answer_help("eval")
    cli = _cli()
    from efficientconv.config import EvalConfig
    from efficientconv.validation import validate

    @cli.entry("eval")
    def main(values: dict) -> None:
        config = validate(EvalConfig, values)
        with nothing_begun():
            from efficientconv.engine.distributed import leave_world, start_world
            from efficientconv.engine.evaluate_run import evaluate_run
            from efficientconv.engine.reporter import result_lines
        world = start_world()
        results = evaluate_run(config, world)
        if world.is_main:
            print("\n".join(result_lines(results)))
        leave_world()

    main()


def _cli() -> ModuleType:
    try:
        with of_extra("train"):
            return import_module("efficientconv.cli")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
