"""An example of convert(): trains a network of standard convolutions, converts it to SIC layers, and fine-tunes it.

    python scripts/convert_digits.py                                      SIC layers; a minute on a CPU
    python scripts/convert_digits.py --layer unravelled --bases 2         unravelled layers with 2 filters for each channel
    python scripts/convert_digits.py --layer unravelled --budget 1e6      as many filters as 1 million MACs allow

The data set is scikit-learn's digits. The command prints accuracy on test images, MACs and parameters: before the
conversion, after the conversion, and after the fine-tuning.
"""

from __future__ import annotations

import argparse

import checkout  # noqa: F401  finds the package
from efficientconv.arguments import positive
from efficientconv.help import parser_for
from efficientconv.signals import guarded, leave_on_signals


def parse_args() -> argparse.Namespace:
    parser = parser_for(__doc__)
    parser.add_argument("--layer", choices=("sic", "unravelled"), default="sic", help="the new layers (default: sic)")
    parser.add_argument("--bases", type=int, help="filters for each channel of an unravelled layer, 1 to 9")
    parser.add_argument("--budget", type=float, metavar="MACS", help="most MACs of the converted network; sets --bases")
    parser.add_argument("--epochs", type=positive, default=5, help="of training, and again of fine-tuning (default: 5)")
    parser.add_argument("--seed", type=int, default=0, help="of the weights and the order of the images (default: 0)")
    return parser.parse_args()


if __name__ == "__main__":
    leave_on_signals()
    parse_args()  # a mistake and --help are answered now: the imports take seconds

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from efficientconv import convert, count

SHAPE = (1, 8, 8)
TRAIN_IMAGES = 1297  # of 1797


def main() -> None:
    args = parse_args()
    torch.manual_seed(args.seed)
    digits = load_digits()
    images, labels = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16, torch.tensor(digits.target)
    order = torch.randperm(len(images))
    train, test = ((images[part], labels[part]) for part in (order[:TRAIN_IMAGES], order[TRAIN_IMAGES:]))

    model = network()
    fit(model, *train, args.epochs, lr=0.1)
    tell("standard", model, test)
    own = {name: value for name in ("bases", "budget") if (value := getattr(args, name)) is not None}
    report = convert(model, args.layer, init="svd", shape=SHAPE, **own)
    tell("converted", model, test)
    fit(model, *train, args.epochs, lr=0.02)
    tell("fine-tuned", model, test)
    print(report)


def network() -> nn.Module:
    def block(n: int, m: int, stride: int = 1) -> nn.Module:
        return nn.Sequential(nn.Conv2d(n, m, 3, stride, padding=1, bias=False), nn.BatchNorm2d(m), nn.ReLU())

    blocks = (block(1, 32), block(32, 64, stride=2), block(64, 64), block(64, 64))
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def fit(model: nn.Module, images: Tensor, labels: Tensor, epochs: int, lr: float) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    model.train()
    for _ in range(epochs):
        for batch in torch.randperm(len(images)).split(64):
            optimizer.zero_grad()
            cross_entropy(model(images[batch]), labels[batch]).backward()
            optimizer.step()
        schedule.step()


@torch.no_grad()
def tell(what: str, model: nn.Module, test: tuple[Tensor, Tensor]) -> None:
    images, labels = test
    accuracy = (model.eval()(images).argmax(1) == labels).float().mean()
    cost = count(model, SHAPE)
    print(f"{what:10}  top-1 {accuracy:7.2%}  {cost.macs / 1e6:.2f} M MACs  {cost.params:,} parameters")


if __name__ == "__main__":
    guarded(main)
