"""The schema of every configuration group: the type, the range and the meaning of each setting.

Hydra composes YAML into a dictionary (cli.py). `validate` (validation.py) makes a `RunConfig` from this dictionary once, at
the start. No other code knows Hydra or OmegaConf. Names contain the unit.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from efficientconv.data_settings import data_settings
from efficientconv.validation import Section, UserPath, file_name

FileName = Annotated[str, AfterValidator(file_name)]
# The upper bounds are the limits of memory, float32 or 32-bit sizes, far beyond sensible values.
Positive = Annotated[int, Field(gt=0, lt=2**31)]
Pixels = Annotated[int, Field(gt=0, le=2**14)]  # of a side
Padding = Annotated[int, Field(ge=0, le=2**10)]  # pixels
Fraction = Annotated[float, Field(ge=0, lt=1)]
Rate = Annotated[float, Field(ge=0, lt=1e38)]
Name = Annotated[str, Field(min_length=1, max_length=128)]  # as W&B takes it
Alpha = Annotated[float, Field(ge=0, le=1e3)]  # of a beta distribution


# ---------------------------------------------------------------- model: configs/model/*.yaml, configs/layout/*.yaml


class BlockConfig(Section):
    """One layer of a stage."""

    layer: str  # a name in efficientconv.layers.LAYERS
    residual: bool | None = None  # null: the paper's rule, a residual where the channels stay the same
    args: dict[str, Any] = {}  # arguments of that layer after in_channels and out_channels

    @model_validator(mode="after")
    def check(self) -> BlockConfig:
        if "residual" in self.args:
            raise ValueError("residual belongs beside args, not in it")
        if "batch_norm" in self.args:
            raise ValueError("batch_norm is for the whole model: decisions.batch_norm, not in args")
        return self


class TopologyConfig(Section):
    """`args.topology` of a block at width 1. At a smaller width the topology shrinks with the layout's channels."""

    dims: list[Positive]
    connections: list[Positive]
    anchor: Literal["center", "corner"] = "center"


class StageConfig(Section):
    """`blocks` in their order, repeated `depth` times."""

    depth: Annotated[int, Field(gt=0, le=1000)]
    blocks: Annotated[list[BlockConfig], Field(min_length=1)]


class Decisions(Section):
    """Settings where the paper is silent or was not available (mark D). The defaults are this project's decisions."""

    anchor: Literal["center", "corner"] | None = None  # of topologies; null: the value in the model's file
    batch_norm: Literal["before", "behind"] = "before"  # before or behind the addition of the residual connection
    bottleneck_residual: bool = True  # around a spatial bottleneck's three convolutions
    bottleneck_grids: Literal["interlocked", "aligned"] = "interlocked"  # aligned: every grid of cells begins at the corner
    expansion_init: Literal["he", "copy"] = "he"  # of a bottleneck's transposed convolution; copy: equal weights in a cell
    pair_residual: bool = True  # around a channel-bottleneck pair


class ModelConfig(Section):
    """The layers of each stage. The layout defines what is around the stages."""

    name: FileName  # also in the name of the run's folder
    description: str
    source: str  # how sure the configuration is: the marks of docs/paper.md
    trunk: Literal["plain", "resnet", "torchvision"]  # plain: A to M; resnet: N, O; torchvision: the comparisons
    layout: Literal["auto", "imagenet", "cifar"] = "auto"  # auto: the one that fits the data's image size
    width: Annotated[float, Field(gt=0, le=64)] = 1.0  # multiplies every channel count
    macs: Annotated[float, Field(gt=0, lt=1e15)] | None = None  # of one image; sets the width (cli.run_config)
    stages: dict[str, StageConfig] = {}
    decisions: Decisions = Decisions()


class ConvConfig(Section):
    channels: Positive
    kernel_size: Positive
    stride: Positive = 1
    padding: Padding = 0


class PoolConfig(Section):
    kernel_size: Positive
    stride: Positive
    padding: Padding = 0


class StageLayout(Section):
    """Max pool (null: none), then a 1x1 layer if the number of channels changes to `channels`, then the stage."""

    channels: Positive
    pool: PoolConfig | None = None


class HeadConfig(Section):
    """1x1 convolution to `channels`, global average pool, fully connected `hidden`, ReLU, dropout, classifier."""

    channels: Positive
    hidden: Positive
    dropout: Fraction


class LayoutConfig(Section):
    """Stem, stages and head around a model's blocks, for images of one scale."""

    image_size: Pixels  # for which the layout was designed
    stem: ConvConfig
    stages: dict[str, StageLayout]
    head: HeadConfig


# ---------------------------------------------------------------- data, optim, schedule, trainer, logger

# Sets whose content depends on data.root, by the names that runs give them. All other sets have one fixed content.
OWN_SETS = ("folder", "part of imagenet")


class DataConfig(Section):
    """The images, and how they are prepared for the network."""

    name: str  # a name in efficientconv.data.DATA_SETS
    root: UserPath | None = None  # folder of the files; null: the data set brings or makes its own images
    image_size: Pixels | None = None  # side of the network's input; null: that of the data set or the layout
    resize_size: Pixels | None = None  # images are resized to this before the crop; null: no resize
    resize_rule: Literal["both", "shorter"] = "both"  # sides that become resize_size; shorter: proportions are kept
    crop_padding: Padding = 0  # zeros added on each side before the random crop
    flip: bool = True  # random horizontal flips in training
    min_crop_area: Annotated[float, Field(gt=0, le=1)] | None = None  # smallest share of the image; null: crops of one size
    randaugment_ops: Annotated[int, Field(ge=0, le=100)] = 0  # operations of RandAugment per image; 0: none
    randaugment_magnitude: Annotated[int, Field(ge=0, le=30)] = 9
    mixup_alpha: Alpha = 0.0  # of the beta distribution for mixing two images; 0: never
    cutmix_alpha: Alpha = 0.0  # the same for a box of one image in another; with both, each is used half the time
    mean: Annotated[list[Annotated[float, Field(ge=0)]], Field(min_length=3, max_length=3)]  # RGB, images in 0..1
    std: Annotated[list[Annotated[float, Field(ge=1e-3)]], Field(min_length=3, max_length=3)]
    val_fraction: Fraction = 0.0  # of the training images, held out and evaluated after each epoch
    max_damaged_fraction: Annotated[float, Field(ge=0, le=1)] = 0.001  # of the training files; more damaged ones end the run
    workers: Annotated[int, Field(ge=0, le=1024)] | None = None  # that decode images; null: one per core, divided among GPUs
    num_classes: Annotated[int, Field(ge=2, le=100_000)] | None = None  # synthetic only
    num_images: Annotated[int, Field(gt=0, le=1_000_000)] | None = None  # synthetic only: training images; test: a quarter

    @field_validator("mean", "std")
    @classmethod
    def check_scale(cls, values: list[float]) -> list[float]:
        if max(values) > 1:
            raise ValueError("images are in 0..1: divide by 255")
        return values

    @model_validator(mode="after")
    def check(self) -> DataConfig:
        for key in ("root", "num_classes", "num_images"):
            if getattr(self, key) is not None and key not in data_settings().get(self.name, (key,)):
                raise ValueError(f"data={self.name} has no use for {key}: leave it out")
        if self.resize_rule == "shorter" and self.resize_size is None:
            raise ValueError("resize_rule=shorter needs resize_size: set data.resize_size too")
        return self


class OptimConfig(Section):
    """SGD."""

    name: Literal["sgd"]
    lr: Annotated[float, Field(gt=0, lt=1e38)]  # the highest learning rate of the schedule, for the global batch
    momentum: Fraction
    nesterov: bool
    weight_decay: Rate
    decay_norms: bool = False  # weight decay on batch norm and biases, too

    @model_validator(mode="after")
    def check(self) -> OptimConfig:
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov=true needs a momentum above 0")
        return self


class ScheduleConfig(Section):
    """The learning rate as a function of the step only (efficientconv/engine/optim.py)."""

    name: Literal["step", "cosine", "onecycle"]
    warmup_epochs: Rate = 0.0  # linear, from 0; the last step of the warm-up has the full rate
    decay_every_epochs: Positive | None = None  # step only
    decay_factor: Annotated[float, Field(gt=0, le=1)] | None = None  # step only

    @model_validator(mode="after")
    def check(self) -> ScheduleConfig:
        if self.name == "step" and (self.decay_every_epochs is None or self.decay_factor is None):
            raise ValueError("the step schedule needs decay_every_epochs and decay_factor")
        if self.name == "onecycle" and self.warmup_epochs:
            raise ValueError("the one-cycle schedule has its own warm-up; set schedule.warmup_epochs=0")
        return self


class TrainerConfig(Section):
    """How long to train, on which device, in which precision."""

    epochs: Positive
    global_batch_size: Positive  # images of one optimizer step, over all processes and accumulation steps
    accumulation_steps: Positive  # forward and backward passes that share one optimizer step
    label_smoothing: Fraction
    ema_decay: Fraction | None  # decay of the weights' moving average per step; null: no moving average
    device: Literal["auto", "cpu", "cuda"]
    precision: Literal["fp32", "bf16", "fp16"]  # bf16, fp16: autocast; fp16 with a gradient scaler
    channels_last: bool
    compile: bool
    compile_mode: Literal["default", "reduce-overhead", "max-autotune"] = "default"  # torch.compile's; others: CUDA graphs
    tf32: bool = True  # on a GPU, fp32 uses TF32 in convolutions and matrix products; false: full float32
    deterministic: bool  # bitwise equal runs on the same machine and number of threads
    sync_batch_norm: bool  # statistics over all processes (GPUs only); false: over each process's own images
    on_divergence: Literal["stop", "rollback"]  # if the loss is not finite; rollback: last good state, half the rate
    checkpoint_minutes: Annotated[float, Field(gt=0)]  # between checkpoints inside an epoch; each epoch's end has one too

    @model_validator(mode="after")
    def check(self) -> TrainerConfig:
        if self.global_batch_size % self.accumulation_steps:
            raise ValueError(
                f"global_batch_size={self.global_batch_size} is not divisible by "
                f"accumulation_steps={self.accumulation_steps}"
            )
        return self


class LayersConfig(Section):
    """Which code computes the layers. Their results (up to rounding) and parameters stay the same."""

    backend: Literal["auto", "reference", "native", "triton"]  # efficientconv/layers/backend.py


class WandbConfig(Section):
    """Weights & Biases. Every setting except `machine` goes to wandb.init."""

    project: Name | None = None  # null: $WANDB_PROJECT, or efficientconv
    entity: Name | None = None  # null: $WANDB_ENTITY, or the account's default
    group: Name | None = None  # null: $WANDB_RUN_GROUP, or the tier
    tags: list[Annotated[str, Field(min_length=1, max_length=64)]] = []
    machine: bool = True  # false: no names of host and user, no paths, hardware, packages, load (tracking/wandb_copy.py)

    @field_validator("project")
    @classmethod
    def check_project(cls, name: str | None) -> str | None:
        if set(name or "") & set("/\\#?%:"):
            raise ValueError("a W&B project must not have / \\ # ? % : in its name")
        return name


class TensorboardConfig(Section):
    """Event files in the run folder, for TensorBoard."""


class LoggerConfig(Section):
    """The loggers that get a copy of the run. metrics.jsonl is always written."""

    wandb: WandbConfig | None = None
    tensorboard: TensorboardConfig | None = None

    @model_validator(mode="before")
    @classmethod
    def read_earlier(cls, values: dict) -> dict:
        """Reads the form of earlier versions: one logger's name, with the settings of W&B beside the name."""
        if not isinstance(values, dict) or "name" not in values:
            return values
        settings = {key: value for key, value in values.items() if key != "name" and value is not None}
        return {"wandb": settings} if values["name"] == "wandb" else {}


class RunConfig(Section):
    """All settings of a training run."""

    seed: Annotated[int, Field(ge=0, lt=2**32)]
    tier: FileName | None = None  # scale of the experiment (configs/tier/); each tier has its own folder of results
    output_root: UserPath  # the folder of the run folders, or of the tiers' folders
    run_dir: UserPath | None  # null: output_root/[<tier>/]<model>-<data>-s<seed>-<hash of the configuration>
    model: ModelConfig
    data: DataConfig
    optim: OptimConfig
    schedule: ScheduleConfig
    trainer: TrainerConfig
    layers: LayersConfig
    logger: LoggerConfig = LoggerConfig()

    @model_validator(mode="after")
    def check(self) -> RunConfig:
        if self.schedule.warmup_epochs >= self.trainer.epochs:
            raise ValueError(
                f"schedule.warmup_epochs={self.schedule.warmup_epochs:g} leaves nothing of "
                f"trainer.epochs={self.trainer.epochs}; shorten the one or lengthen the other"
            )
        return self


# ---------------------------------------------------------------- eval.py: configs/eval.yaml


class EvalConfig(Section):
    """What eval.py evaluates, and on which device."""

    run: UserPath
    checkpoint: UserPath | None
    device: Literal["auto", "cpu", "cuda"]
    data: DataConfig | None = None  # null: the run's own
