"""The networks that the paper compares with, from torchvision, untrained. torchvision is imported on first use."""

from __future__ import annotations

import torch
from torch import nn

from efficientconv.config import ModelConfig
from efficientconv.errors import UserError, of_extra
from efficientconv.models.zoo import layout_name

IMAGE_SIZE = 224  # pixels a side for which all of them were designed


def build(config: ModelConfig, num_classes: int, in_chans: int, image_size: int | None) -> nn.Module:
    """torchvision's network of that name, unchanged. A ResNet in layout cifar gets a 3x3 stem without pool [D].

    Raises:
        UserError: a width other than 1; images that the network cannot take.
    """
    with of_extra("train"):
        import torchvision

    if config.width != 1:
        raise UserError(f"model.width={config.width:g} is for the paper's models; '{config.name}' has width 1 only")
    options = {"aux_logits": False, "init_weights": True} if config.name == "googlenet" else {}
    network = torchvision.models.get_model(config.name, weights=None, num_classes=num_classes, **options)
    if layout_name(config, image_size) == "cifar" and isinstance(network, torchvision.models.ResNet):
        network.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
        network.maxpool = nn.Identity()
    if in_chans != 3:
        _take_channels(network, in_chans)
    _check_size(network, config.name, in_chans, IMAGE_SIZE if image_size is None else image_size)
    return network


def _take_channels(network: nn.Module, in_chans: int) -> None:
    """Replaces the first convolution by one for images with that many channels."""
    name, first = next((name, module) for name, module in network.named_modules() if isinstance(module, nn.Conv2d))
    conv = nn.Conv2d(
        in_chans, first.out_channels, first.kernel_size, first.stride, first.padding,  # type: ignore[arg-type]
        bias=first.bias is not None,
    )  # fmt: skip
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    network.set_submodule(name, conv)


def _check_size(network: nn.Module, name: str, in_chans: int, image_size: int) -> None:
    """Runs one image of zeros through the network, because torchvision states no smallest size."""
    was_training = network.training
    network.eval()
    meta = {key: tensor.to("meta") for key, tensor in network.state_dict().items()}
    try:
        torch.func.functional_call(network, meta, (torch.empty(1, in_chans, image_size, image_size, device="meta"),))
    except RuntimeError:
        raise UserError(
            f"image_size={image_size} is too small for '{name}'; choose a larger data.image_size, or a ResNet"
        ) from None
    finally:
        network.train(was_training)
