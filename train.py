"""Trains a model: python train.py model=c data=cifar10 trainer.epochs=100 optim.lr=0.1 seed=0

Every setting is a line of a file in configs/. The same command again continues the run, or reports it when it is done.
Several runs: python train.py -m model=a,c seed=0,1,2
"""

from efficientconv.signals import leave_on_signals

if __name__ == "__main__":
    leave_on_signals()  # now: the imports take seconds

from efficientconv import cli  # noqa: E402
from efficientconv.engine.configure import run_config  # noqa: E402
from efficientconv.engine.run import train  # noqa: E402
from efficientconv.sweep.launch import sweep  # noqa: E402


@cli.entry("train", sweep=sweep)
def main(values: dict) -> None:
    train(run_config(values))


if __name__ == "__main__":
    main()
