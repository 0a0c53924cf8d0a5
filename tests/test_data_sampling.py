"""Order, shards and augmentation numbers are functions of (seed, epoch) alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from efficientconv.data.sampling import EvalPlan, Shard, TrainPlan, augmentation_numbers, epoch_order

NUM_IMAGES = 103  # a prime: no number of processes and no batch size divides it


def test_order_is_a_permutation_that_changes_with_seed_and_epoch():
    order = epoch_order(seed=0, epoch=0, num_images=NUM_IMAGES)
    assert sorted(order) == list(range(NUM_IMAGES))
    assert np.array_equal(order, epoch_order(0, 0, NUM_IMAGES))
    others = [epoch_order(*key, NUM_IMAGES) for key in ((0, 1), (1, 0), (1, 1))]
    assert all(not np.array_equal(order, other) for other in others)


def test_augmentation_numbers_differ_between_images_epochs_and_seeds():
    streams = np.concatenate([augmentation_numbers(*key, NUM_IMAGES) for key in ((0, 0), (0, 1), (1, 0))])
    assert np.unique(streams, axis=0).shape == (3 * NUM_IMAGES, 3)
    assert streams.min() >= 0 and streams.max() < 1


def test_an_images_numbers_do_not_depend_on_the_number_of_images():
    assert np.array_equal(augmentation_numbers(3, 5, 10), augmentation_numbers(3, 5, NUM_IMAGES)[:10])


def test_global_random_state_is_neither_read_nor_advanced():
    torch.manual_seed(0)
    np.random.seed(0)
    first, state = epoch_order(0, 0, NUM_IMAGES), torch.get_rng_state()
    torch.manual_seed(1)
    np.random.seed(1)
    assert np.array_equal(first, epoch_order(0, 0, NUM_IMAGES))
    torch.manual_seed(0)
    augmentation_numbers(0, 0, NUM_IMAGES)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("accumulation", [1, 2])
def test_ranks_and_micro_batches_together_are_the_global_batches(world_size, accumulation):
    plans = [TrainPlan(NUM_IMAGES, 12, accumulation, 7, Shard(rank, world_size)) for rank in range(world_size)]
    per_rank = [[task.indices for task in plan.tasks(epoch=2)] for plan in plans]
    assert {len(batches) for batches in per_rank} == {plans[0].batches_per_epoch} == {8 * accumulation}
    assert {len(batch) for batches in per_rank for batch in batches} == {plans[0].batch_size}
    taken = np.concatenate([batches[i] for i in range(8 * accumulation) for batches in per_rank])
    assert np.array_equal(taken, epoch_order(7, 2, NUM_IMAGES)[: 8 * 12])


def test_starting_in_the_middle_is_the_tail_of_the_epoch():
    plan = TrainPlan(NUM_IMAGES, 12, 1, 0, Shard(1, 3))
    whole, tail = list(plan.tasks(4)), list(plan.tasks(4, start=5))
    assert len(tail) == len(whole) - 5
    assert all(np.array_equal(a, b) for pair in zip(whole[5:], tail) for a, b in zip(*pair))


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_eval_shards_have_each_image_once(world_size):
    plans = [EvalPlan(NUM_IMAGES, 4, Shard(rank, world_size)) for rank in range(world_size)]
    seen = [index for plan in plans for task in plan.tasks() for index in task.indices.tolist()]
    assert sorted(seen) == list(range(NUM_IMAGES))
