"""What a user of the library gives by mistake is answered in one line that says what to do."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from torch import nn

import efficientconv as ec
from efficientconv.errors import UserError


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3))


CALLS: list[tuple[Callable[[], object], str]] = [
    *((lambda other=other: ec.freeze(other), "freeze: the model is no network") for other in ("c", None, {})),
    (lambda: ec.count("c", (3, 32, 32)), "count: the model is no network, but str; give a torch.nn.Module"),
    (lambda: ec.count(ec.create_model, (3, 32, 32)), "count: the model is no network, but function"),
    (lambda: ec.count(network().state_dict(), (3, 32, 32)), "count: the model is no network, but OrderedDict"),
    (lambda: ec.convert(nn.Sequential, "sic"), "convert: the model is no network, but the class Sequential"),
    (lambda: ec.prepare_for_export("c"), "prepare_for_export: the model is no network"),
    (lambda: ec.count(network(), (3, -32, 32)), "whole numbers, 0 or more"),
    (lambda: ec.convert(network(), "sic", exclude=[0]), r"names of convolutions are strings such as 'layer1.\*', got \[0\]"),
    (lambda: ec.convert(network(), "sic", include=0), "names of convolutions are strings"),
    (lambda: ec.convert(network(), "sic", exclude=None), "names of convolutions are strings"),
    (lambda: ec.convert(network(), "unravelled", budget="1M", shape=(3, 9, 9)), "budget='1M' is no number of MACs"),
    (lambda: ec.create_model(18), "a model is a name, such as 'c', or a configuration, no int"),
    (lambda: ec.create_model(None, weights="c_cifar10"), "a model is a name"),
    (lambda: ec.create_model("c", weights=True), "weights are given by a name or a path, not by True: known: a_cifar10"),
    (lambda: ec.load_run(None), "weights are given by a name or a path"),
]


@pytest.mark.parametrize("call, message", CALLS)
def test_what_is_no_network_no_name_and_no_number_is_refused_in_one_line(call: Callable[[], object], message: str):
    with pytest.raises(UserError, match=message) as refused:
        call()
    assert "\n" not in str(refused.value)


def test_predict_refuses_images_in_memory_and_odd_numbers_of_classes():
    classifier = ec.load_run("c_cifar10", device="cpu")
    with pytest.raises(
        UserError, match=r"path of a file or a folder; for images in memory call model\(preprocess\(images\)\)"
    ):
        classifier.predict(np.zeros((32, 32, 3), np.uint8))
    for topk in (0, "5", 2.0):
        with pytest.raises(UserError, match="choose a whole number of classes"):
            list(classifier.batches(["image.png"], topk))
