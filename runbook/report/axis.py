"""The time axis of the timeline: work to scale, what lies between folded together."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from runbook.report.record import Run, attempts

WIDTH = 1080  # of the drawing, px
LEFT = 206  # the names of the hosts
BREAK = 30  # a stretch in which nothing happened; where there are many, less
QUIET = 90.0  # seconds without an entry, and without work on any host, that are folded
STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400)
"""Seconds between two times that are written on the axis."""


@dataclass(frozen=True, slots=True)
class Axis:
    """Where a time stands: stretches of work to scale, what lies between them folded."""

    stretches: tuple[tuple[float, float], ...]  # seconds since the epoch
    scale: float  # px a second
    fold: float = BREAK  # px for what lies between two of them

    def x(self, at: float) -> float:
        n = max(0, bisect_right([start for start, _ in self.stretches], at) - 1)
        start, end = self.stretches[n]
        before = sum(e - s for s, e in self.stretches[:n])
        inside = min(max(at, start), end) - start
        folded = self.fold if at > end and n + 1 < len(self.stretches) else 0
        return LEFT + n * self.fold + (before + inside) * self.scale + folded / 2

    def breaks(self) -> Iterator[tuple[float, float]]:
        """Where a fold begins, and the seconds it stands for."""
        for (_, end), (start, _) in zip(self.stretches, self.stretches[1:], strict=False):
            yield end, start - end

    def ticks(self) -> Iterator[float]:
        """Times to write on the axis, at least 70 px apart."""
        step = next((s for s in STEPS if s * self.scale >= 84), STEPS[-1])
        folds = [self.x(end) + self.fold / 2 for end, _ in self.breaks()]
        last = 0.0
        for start, end in self.stretches:
            at = start - start % step + (step if start % step else 0)
            while at <= end:
                x = self.x(at)
                if x - last >= 70 and all(abs(x - fold) > 46 for fold in folds):
                    last = x
                    yield at
                at += step


def axis(found: Sequence[Run]) -> Axis:
    """The axis of these runs."""
    work = sorted((a.started, a.ended) for a in attempts(found) if a.ended)
    stretches: list[list[float]] = []
    for run in found:
        times = sorted({*run.times, *(e for s, e in work if run.started <= s and e <= run.last)})
        for n, at in enumerate(times):
            quiet = n == 0 or (at - times[n - 1] > QUIET and not _busy(work, times[n - 1], at))
            if quiet:
                stretches.append([at, at])
            stretches[-1][1] = at
    close: list[list[float]] = []
    for stretch in stretches:  # runs right behind each other need no fold
        if close and stretch[0] - close[-1][1] <= QUIET:
            close[-1][1] = stretch[1]
        else:
            close.append(stretch)
    total = sum(end - start for start, end in close)
    room = WIDTH - LEFT - 12.0
    fold = min(BREAK, room / 2 / max(1, len(close) - 1))
    scale = (room - fold * (len(close) - 1)) / max(total, 1.0)
    return Axis(tuple((s, e) for s, e in close), scale, fold)


def _busy(work: Sequence[tuple[float, float]], start: float, end: float) -> bool:
    return any(s < end and e > start for s, e in work)
