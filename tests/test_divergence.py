"""A loss that is not finite: stopped, never saved, or gone back from."""

from __future__ import annotations

import math
import warnings

import pytest
import torch

from efficientconv.engine.checkpoint import load_newest
from efficientconv.engine.divergence import Diverged
from efficientconv.engine.reporter import Reporter
from efficientconv.engine.run import Run
from efficientconv.engine.run_folder import RunFolder
from efficientconv.engine.store import RunStore
from test_trainer import Batches, make_trainer, small_model, training_of


class Poisoned(Batches):
    """One bad batch in the second epoch, where the rate is above `limit`: what a high rate does, at a known step."""

    def __init__(self, trainer, limit: float):
        super().__init__(4, 4)
        self.trainer, self.limit = trainer, limit

    def epoch(self, epoch: int, start: int = 0):
        for number, (images, labels) in enumerate(super().epoch(epoch, start), start):
            if epoch == 1 and number == 1 and self.trainer.lr_scale > self.limit:
                images = images * torch.inf
            yield images, labels


def train_epochs(tmp_path, on_divergence: str, limit: float, lr_scale: float = 1.0):
    trainer = make_trainer(small_model(), on_divergence=on_divergence)
    trainer.lr_scale = lr_scale
    training = training_of(trainer, Poisoned(trainer, limit))
    store = RunStore(RunFolder(tmp_path), training)
    Run(training, store, Reporter(tmp_path, is_main=True)).train_epochs()
    return trainer, store.log


def test_stop_names_the_step_and_keeps_the_last_good_weights(tmp_path):
    with pytest.raises(Diverged, match="the loss of step 6 is not finite"):
        train_epochs(tmp_path, "stop", limit=0.0)
    state = load_newest(tmp_path / "checkpoints")[1]
    assert state["step"] == 4
    assert all(torch.isfinite(tensor).all() for tensor in state["model"].values())


def test_rollback_goes_back_and_lowers_the_rate(tmp_path):
    with pytest.warns(UserWarning, match="the loss of step 6 is not finite; back to step 4 with 0.5 times the rate"):
        trainer, log = train_epochs(tmp_path, "rollback", limit=0.5)
    assert trainer.step == 8 and trainer.lr_scale == 0.5
    assert [record["epoch"] for record in log.values] == [1, 2]
    before, after = ((1 + math.cos(math.pi * step / 8)) / 2 for step in (3, 7))  # the last steps of the epochs, of 8
    assert [record["lr"] for record in log.values] == pytest.approx([0.1 * before, 0.1 * 0.5 * after])


def test_rollback_gives_up_when_it_does_not_help(tmp_path):
    with pytest.warns(UserWarning, match="0.125 times"), pytest.raises(Diverged):
        train_epochs(tmp_path, "rollback", limit=0.0)


def test_a_continued_run_has_no_more_rollbacks_than_an_unbroken_one(tmp_path):
    """It begins with the scale of its checkpoint, which three rollbacks have made."""
    with warnings.catch_warnings(), pytest.raises(Diverged):
        warnings.simplefilter("error")
        train_epochs(tmp_path, "rollback", limit=0.0, lr_scale=0.125)


def test_weights_that_are_not_finite_are_never_saved():
    trainer = make_trainer(small_model())
    trainer.model.head.classifier.weight.data[0, 0] = torch.nan
    with pytest.raises(Diverged, match="a weight after step 0"):
        trainer.require_finite()
