"""Measured speed of layers and models against their arithmetic (scripts/benchmark.py)."""

PASSES = ("forward", "training")
SHAPES = {  # the layout's stages: name, channels, pixels a side
    "imagenet": (("stage2", 128, 36), ("stage3", 256, 18), ("stage4", 512, 6)),
    "cifar": (("stage2", 128, 16), ("stage3", 256, 8), ("stage4", 512, 4)),
}
MODELS = "abcdefghijklmno"
FORMATS = {"fp32": "float32", "bf16": "bfloat16 by autocast", "fp16": "float16 by autocast"}
