"""From ImageNet as it is handed out to a prepared set (efficientconv/data/prepared.py): scripts/prepare_imagenet.py."""
