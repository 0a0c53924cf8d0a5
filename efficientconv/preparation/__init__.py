"""Work before a training: makes a prepared set of ImageNet (data/prepared.py), and checks every image of a data set."""
