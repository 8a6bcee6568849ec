"""Training on several cores: each core computes its share of a batch, on one thread.

    batch ─ split ─▶ share │ share │ … ─ a thread each ─▶ gradients ─ added in a fixed order ─▶ optimizer

torch can divide each of the hundreds of small operations of a step among cores instead, and then waits for the slowest
core after each. Beside another busy process, torch then waits for most of the time: the system takes a core away for
some milliseconds, and every operation waits for it. A team waits only twice a step.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from itertools import starmap
from typing import Any

import torch
from torch import Tensor

from aekit.cores import cores


class Team:
    """Threads that work on a step together. A team of one is the calling thread, with torch's own threads."""

    def __init__(self, size: int = 1) -> None:
        """Make a team of so many members; the calling thread is one of them."""
        self.size = size
        self._others = ThreadPoolExecutor(size - 1, "aekit-team", _begin) if size > 1 else None

    @classmethod
    def of_device(cls, device: str) -> "Team":
        """Return the team for a torch device: on a CPU one member for each core that torch and this process may use."""
        return cls(min(torch.get_num_threads(), cores()) if device == "cpu" else 1)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Have torch use one thread for each operation inside, if the team has several members."""
        before = torch.get_num_threads()
        if self.size > 1:
            torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(before)

    def map(self, function: Callable[..., Any], *items: Sequence[Any]) -> list[Any]:
        """Call the function with the first of all items, with the second of all, and so on. Return the list of results.

        Errors are raised here, after all calls have ended.
        """
        calls = list(zip(*items, strict=True))
        if self._others is None or len(calls) < 2:
            return list(starmap(function, calls))
        futures = [self._others.submit(function, *call) for call in calls[1:]]
        try:
            first = function(*calls[0])
        finally:
            errors = [future.exception() for future in futures]
        for error in errors:
            if error is not None:
                raise error
        return [first, *(future.result() for future in futures)]

    def over(self, function: Callable[..., None], *lists: list[Tensor]) -> None:
        """Call the function on parts of lists of tensors, a part for each member. All lists are divided alike.

        The tensors of the first list count by their sizes.
        """
        if self._others is None:
            function(*lists)
            return
        parts = _balanced(tuple(tensor.numel() for tensor in lists[0]), self.size)
        self.map(function, *([[tensors[row] for row in rows] for rows in parts] for tensors in lists))

    def move(self, averages: list[Tensor], weights: list[Tensor], share: float) -> None:
        """Move averages towards the weights by this share of the way."""

        @torch.no_grad()
        def moved(averages: list[Tensor], weights: list[Tensor]) -> None:
            torch._foreach_lerp_(averages, weights, share)

        self.over(moved, averages, weights)

    def gradients(self, cost: Callable[..., Tensor], parameters: list[Tensor], *shares: Sequence[Any]) -> Tensor:
        """Set the gradients of the parameters to those of a batch's cost, the mean of the costs of its shares.

        Args:
            cost: computes the cost of a share, a scalar.
            parameters: what the cost depends on; parameters that it does not depend on get no gradient.
            shares: the arguments of `cost` for each share. The first of each are weights, which add up to 1.

        Returns the cost of the batch, without a graph.
        """

        def of_share(weight: float, *share: Any) -> tuple[Tensor, list[Tensor | None]]:
            loss = cost(*share) * weight
            found = torch.autograd.grad(loss, parameters, allow_unused=True)
            return loss.detach(), [_laid_out(gradient, like) for gradient, like in zip(found, parameters, strict=True)]

        losses, found = zip(*self.map(of_share, *shares), strict=True)
        rows = [row for row, gradient in enumerate(found[0]) if gradient is not None]
        for parameter in parameters:
            parameter.grad = None
        for row in rows:
            parameters[row].grad = found[0][row]
        if len(found) > 1:
            self.over(_add, *([gradients[row] for row in rows] for gradients in found))
        return torch.stack(losses).sum()


def shares_of(rows: Tensor, members: int, fewest: int) -> list[Tensor]:
    """Divide rows into a share for each member, but into fewer if shares would have less than `fewest` rows."""
    return list(rows.tensor_split(max(1, min(members, len(rows) // fewest))))


def _laid_out(gradient: Tensor | None, like: Tensor) -> Tensor | None:
    """Return a gradient with its numbers in the order of its parameter's, which torch's fused optimizers expect."""
    if gradient is None or gradient.stride() == like.stride():
        return gradient
    return torch.empty_like(like).copy_(gradient)


def _begin() -> None:
    """Prepare a thread: torch has these settings for each thread separately.

    A new thread takes torch's number of threads only when an operation first asks for it. A product of matrices before
    that would divide its sums in another way.
    """
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)


def _add(total: list[Tensor], *others: list[Tensor]) -> None:
    for other in others:
        torch._foreach_add_(total, other)


@cache
def _balanced(sizes: tuple[int, ...], count: int) -> list[list[int]]:
    """Divide rows of these sizes into at most `count` lists of about equal sums."""
    parts: list[list[int]] = [[] for _ in range(count)]
    sums = [0] * count
    for row in sorted(range(len(sizes)), key=lambda row: -sizes[row]):
        least = sums.index(min(sums))
        parts[least].append(row)
        sums[least] += sizes[row]
    return [sorted(part) for part in parts if part]
