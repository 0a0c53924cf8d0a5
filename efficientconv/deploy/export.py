"""Writes networks for other programs: as plain convolutions, as ONNX, or as PyTorch's exported program (.pt2).

    model = prepare_for_export(model, fold_batch_norm=True)
    data = exported(model, "onnx", (3, 32, 32))

`agreement` compares the classes and logits of the file with those of the network.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from efficientconv.deploy.folding import copied, fold
from efficientconv.errors import UserError, refuse_frozen, require_network
from efficientconv.layers import ConvLayer, GroupedConv2d, TopologicalConv2d
from efficientconv.layers.backend import are_plain, set_backend

INPUT, OUTPUT = "images", "logits"
CHECKED_IMAGES = 64
TOLERANCE = 1e-3  # rounding is below 1e-5

Program = Callable[[Tensor], Tensor]  # images B x C x S x S -> logits


@torch.no_grad()
def prepare_for_export(model: nn.Module, *, fold_batch_norm: bool = False) -> nn.Module:
    """A copy of `model` for inference, made of plain convolutions. It computes the same, and any tool can read it.

    Topological layers become dense convolutions with zeros, parametrized weights become plain ones, and native kernels are
    left out. Quantization and tracing, which cannot handle a computed weight, accept the copy. Layers with hooks, as pruning
    makes them, stay as they are.

    Args:
        fold_batch_norm: batch norms of `ConvLayer`s go into the convolutions before them. Those of other modules stay, and
            those behind a residual connection.
    Raises:
        UserError: `model` is the result of `freeze`.
    """
    require_network(model, "prepare_for_export")
    refuse_frozen(model, "exported")
    model = set_backend(copied(model).eval(), "auto")  # are_plain tells layers of the reference from plain ones
    for module in model.modules():
        _store_weights(module)
    if fold_batch_norm:
        for layer in (module for module in model.modules() if isinstance(module, ConvLayer)):
            fold(layer)
    for name, module in list(model.named_modules(remove_duplicate=False)):
        if isinstance(module, TopologicalConv2d) and are_plain([module]):
            if not name:
                return _dense(module)
            model.set_submodule(name, _dense(module))
        elif isinstance(module, GroupedConv2d) and are_plain([module]):
            module.__class__ = nn.Conv2d  # type: ignore[assignment]  # tools look for this very class
    return set_backend(model, "reference")


def exported(
    network: nn.Module, format: str, shape: Sequence[int], *, batch: int | None = None, classes: Sequence[str] = ()
) -> bytes:
    """The content of an .onnx or .pt2 file.

    Args:
        network: the result of `prepare_for_export`, on the CPU.
        format: onnx or pt2.
        shape: (channels, height, width) of an image, fixed in the file.
        batch: images at a time; None: any number.
        classes: their names by label, into the file's metadata ("classes", JSON).
    Raises:
        UserError: format onnx without the packages that it needs.
    """
    images = torch.zeros(batch or 2, *shape)
    sizes = None if batch else ({0: torch.export.Dim("batch")},)
    names = json.dumps(list(classes))
    if format == "pt2":
        data = io.BytesIO()
        exported = torch.export.export(network, (images,), dynamic_shapes=sizes)
        torch.export.save(exported, data, extra_files={"classes.json": names})
        return data.getvalue()
    if missing := [name for name in ("onnx", "onnxscript") if find_spec(name) is None]:
        raise UserError(f"format=onnx needs {' and '.join(missing)}: pip install {' '.join(missing)}")
    program = torch.onnx.export(
        network, (images,), dynamo=True, verbose=False, input_names=[INPUT], output_names=[OUTPUT], dynamic_shapes=sizes
    )
    program.model.metadata_props["classes"] = names
    return program.model_proto.SerializeToString()


def runner(data: bytes, format: str) -> Program | None:
    """Runs the result of `exported` on as many threads as torch has. None: onnxruntime is needed and not installed."""
    if format == "pt2":
        program = torch.export.load(io.BytesIO(data)).module()
        return lambda images: program(images)
    if find_spec("onnxruntime") is None:
        return None
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run([OUTPUT], {INPUT: images.contiguous().numpy()})[0])


@dataclass(frozen=True)
class Agreement:
    """Compares an exported network with its original on images of noise."""

    images: int
    same_class: int
    largest_difference: float  # of logits, as a share of the largest logit

    def holds(self) -> bool:
        """The class alone says little: many networks take all noise for one class. NaN does not hold."""
        return self.same_class == self.images and self.largest_difference <= TOLERANCE

    def __str__(self) -> str:
        return f"{self.same_class} of {self.images} images in the same class, logits within {self.largest_difference:.1e}"


@torch.no_grad()
def agreement(network: nn.Module, program: Program, shape: Sequence[int], batch: int | None = None) -> Agreement:
    at_once = batch or CHECKED_IMAGES
    noise = torch.Generator().manual_seed(0)
    batches = [torch.randn(at_once, *shape, generator=noise) for _ in range(-(-CHECKED_IMAGES // at_once))]
    ours, theirs = (torch.cat([f(images) for images in batches]) for f in (network.eval(), program))
    same = (ours.argmax(1) == theirs.argmax(1)).sum()
    return Agreement(len(ours), int(same), float((ours - theirs).abs().max() / ours.abs().max()))


def _dense(conv: TopologicalConv2d) -> nn.Conv2d:
    plain = nn.Conv2d(
        conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding, conv.dilation,
        bias=conv.bias is not None, padding_mode=conv.padding_mode,  # type: ignore[arg-type]
        device=conv.weight.device, dtype=conv.weight.dtype,
    )  # fmt: skip
    plain.weight.copy_(conv.dense_weight())
    if conv.bias is not None:
        plain.bias.copy_(conv.bias)
    return plain.eval()


def _store_weights(module: nn.Module) -> None:
    """Parametrized weights as plain ones with the values of now."""
    if not parametrize.is_parametrized(module):
        return
    values = {name: getattr(module, name).clone() for name in module.parametrizations}
    plain = parametrize.type_before_parametrizations(module)
    del module.parametrizations  # torch's remove_parametrizations would change the class, also the original's
    module.__class__ = plain
    for name, value in values.items():
        setattr(module, name, nn.Parameter(value, requires_grad=False))
