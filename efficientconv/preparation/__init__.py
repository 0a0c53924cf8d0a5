"""Once, before a training: ImageNet as it is handed out to a prepared set (data/prepared.py); every image looked at."""
