"""Trains a model.

    python train.py model=c data=cifar10 trainer.epochs=100 optim.lr=0.1 seed=0
    python train.py -m model=a,c seed=0,1,2                         several runs

Every setting is a line of a file in configs/. The same command again continues the run, or reports it when it is done.
"""

from efficientconv.commands import train as main

if __name__ == "__main__":
    main()
