"""A network that starts from the weights of a run: which configuration it has, and which weights are adapted."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from efficientconv.config import ModelConfig
from efficientconv.errors import UserError
from efficientconv.models.decisions import refuse_of_another
from efficientconv.models.network import classifier_of
from efficientconv.models.zoo import REGISTERED, layout_name, model_config
from efficientconv.validation import validate
from efficientconv.weights import Weights, load_into


def as_trained(
    start: Weights, origin: Path, model: str | ModelConfig, num_classes: int | None, image_size: int | None,
    changes: Mapping[str, str | float],
) -> tuple[str | ModelConfig, int | None, int | None]:  # fmt: skip
    """The three arguments: those that were given, and the others as in the run of the weights, which are from `origin`.

    Raises UserError for `changes` that the weights do not fit, and for another network, whose weights may have the same
    names and shapes.
    """
    if num_classes is None and start.classes:
        num_classes = len(start.classes)
    if start.config is None or isinstance(model, str) and model in REGISTERED.names():
        return model, num_classes, image_size
    trained, size = validate(ModelConfig, start.config["model"], where="model"), start.config["data"]["image_size"]
    if size is not None:  # otherwise the images' own, from which layout=auto follows too
        trained = trained.model_copy(update={"layout": layout_name(trained, size)})
    for key, value in changes.items():
        if (own := getattr(trained, key)) not in (value, "auto"):
            raise UserError(f"{key}={value}: the weights in {origin} are of {key}={own}; leave {key} out")
    if trained.name == model:
        return trained, num_classes, size if image_size is None else image_size
    refuse_of_another(origin, trained, model_config(model) if isinstance(model, str) else model)
    return model, num_classes, image_size


def start_from(network: nn.Module, tensors: dict[str, Tensor], origin: Path) -> None:
    """Gives `network` the weights of a run.

    The classifier keeps its own weights if the run has other classes. The weights of the first convolution are adapted to
    other channels of images. Raises UserError if the weights belong to another network.
    """
    own = {name: tensor for name, tensor in network.state_dict().items() if not is_lazy(tensor)}
    named = [f"{classifier_of(network)}.{part}" for part in ("weight", "bias")]
    classifier = {name: own[name] for name in named if name in own}
    if any(name in tensors and tensors[name].shape != tensor.shape for name, tensor in classifier.items()):
        tensors = tensors | classifier
    first = next((f"{name}.weight" for name, module in network.named_modules() if isinstance(module, nn.Conv2d)), None)
    if first in own and first in tensors:
        tensors = tensors | {first: _for_channels(tensors[first], own[first].shape[1])}
    load_into(network, tensors, origin)


def _for_channels(weight: Tensor, channels: int) -> Tensor:
    """A convolution's weight for images of `channels` instead of 3, as timm's adapt_input_conv."""
    if channels == 3 or weight.shape[1] != 3:
        return weight
    if channels == 1:
        return weight.sum(1, keepdim=True)
    return weight.repeat(1, -(-channels // 3), 1, 1)[:, :channels] * (3 / channels)
