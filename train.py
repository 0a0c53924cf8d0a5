"""Trains a model on a data set.

    python train.py model=c data=cifar10 trainer.epochs=100 optim.lr=0.1 seed=0
    python train.py -m model=a,c seed=0,1,2       six runs, one after another
    python train.py model=c --cfg job             prints all settings and trains nothing

Comments in configs/ and efficientconv/config.py explain each setting. Each run has its own folder. The same command again
continues the run. If the run is finished, the command prints the results.
"""

from efficientconv.commands import train as main

if __name__ == "__main__":
    main()
