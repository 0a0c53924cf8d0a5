"""The time that a machine needs for a piece of work, at its peaks and as expected, and what limits the machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from efficientconv.roofline.machine import ALL_OF_IT, Machine, Share
from efficientconv.roofline.work import Work


@dataclass(frozen=True)
class Time:
    """The seconds of a pass that memory, arithmetic and the host take."""

    memory: float
    arithmetic: float
    host: float  # all launches; the device works at the same time

    @property
    def seconds(self) -> float:
        return max(self.memory + self.arithmetic, self.host)

    @property
    def binds(self) -> str:
        if self.host > self.memory + self.arithmetic:
            return "host"
        return "memory" if self.memory > self.arithmetic else "arithmetic"


def limit(works: Sequence[Work], machine: Machine, precision: str) -> Time:
    """The least time: the machine's peaks, one operation after the other, and launches that take no time."""
    return _time(works, machine, precision, ALL_OF_IT, least=0, host=0)


def expected(works: Sequence[Work], machine: Machine, precision: str, shares: Mapping[str, Share]) -> Time:
    """The time of kernels that reach `shares` of the peaks, and of a host that launches the kernels one by one."""
    return _time(works, machine, precision, shares, machine.kernel_s, len(works) * machine.launch_s)


def _time(
    works: Sequence[Work], machine: Machine, precision: str, shares: Mapping[str, Share], least: float, host: float
) -> Time:
    memory = arithmetic = 0.0
    for work in works:
        share = shares[work.kind]
        moving = work.bytes / machine.bytes_per_s / share.bytes
        computing = work.flops / machine.flops_per_s(work.kind, precision) / share.flops
        if computing > moving:
            arithmetic += max(computing, least)
        else:
            memory += max(moving, least)
    return Time(memory, arithmetic, host)
