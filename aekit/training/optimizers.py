"""Optimizers and learning-rate schedules."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, overload

import torch
from torch import Tensor

from aekit.training.config import TrainConfig
from aekit.training.networks import Autoencoder

_BETAS = (0.9, 0.97)
"""adamw's averages: a shorter memory of squares than usual suits runs of a few thousand steps."""
_LEARNED_FASTER = 5.0
"""Learning rate of what an objective learns beside the network: a few numbers a dimension, which can't overfit."""
_WARM = 0.03
"""Share of a one-cycle run over which the rate rises."""


class _Optimizer(torch.optim.Optimizer, ABC):
    """An optimizer with the same few averages of each parameter, which updates a group's parameters at once."""

    averages: ClassVar[dict[str, float]]
    """The averages by name, with the value each begins at."""

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any]) -> None:
        super().__init__(params, defaults)
        self._kept: dict[int, list[list[Tensor]]] = {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take over saved averages; torch's load_state_dict ends here too."""
        super().__setstate__(state)
        self._kept = {}

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One update of every parameter that has a gradient."""
        assert closure is None
        for number, group in enumerate(self.param_groups):
            params = [param for param in group["params"] if param.grad is not None]
            if params:
                self.update(group, params, [param.grad for param in params], *self._averages(number, params))
        return None

    @abstractmethod
    def update(self, group: dict[str, Any], params: list[Tensor], gradients: list[Tensor], *kept: list[Tensor]) -> None:
        """Change the parameters of a group and their averages, which come in the order of `averages`."""

    def _averages(self, number: int, params: list[Tensor]) -> list[list[Tensor]]:
        # Looking each up in the state takes as long as a small network's update; so they are kept while they are all.
        kept = self._kept.get(number)
        if kept is None or len(kept[0]) != len(params):
            for param in params:
                for name, start in self.averages.items():
                    if name not in self.state[param]:
                        self.state[param][name] = torch.full_like(param, start)
            kept = [[self.state[param][name] for param in params] for name in self.averages]
            if len(params) == len(self.param_groups[number]["params"]):
                self._kept[number] = kept
        return kept


class Tf1RMSProp(_Optimizer):
    """RMSProp as TensorFlow 1 computes it, which the book's runs need.

    It differs from torch's in two ways: the mean square starts at 1, not 0, and epsilon stands inside the root
    (TensorFlow 1, RMSPropOptimizer: decay 0.9, momentum 0, epsilon 1e-10).
    """

    averages: ClassVar = {"mean_square": 1.0}

    def __init__(self, params: Iterable[Tensor], lr: float, decay: float = 0.9, eps: float = 1e-10) -> None:
        super().__init__(params, {"lr": lr, "decay": decay, "eps": eps})

    def update(self, group: dict[str, Any], params: list[Tensor], gradients: list[Tensor], *kept: list[Tensor]) -> None:
        """Divide each gradient by the root of its mean square."""
        (mean_squares,) = kept
        torch._foreach_mul_(mean_squares, group["decay"])
        torch._foreach_addcmul_(mean_squares, gradients, gradients, 1 - group["decay"])
        roots = torch._foreach_add(mean_squares, group["eps"])
        torch._foreach_sqrt_(roots)
        torch._foreach_addcdiv_(params, gradients, roots, -group["lr"])


class FusedAdamW(_Optimizer):
    """AdamW (Loshchilov & Hutter 2019) by torch's fused kernel, called with as little around it as can be.

    torch.optim.AdamW counts the steps of each parameter in a tensor of its own and sorts parameters by device each
    step. One count a group is enough here. A step of torch.optim.AdamW(fused=True) takes 1.7 times as long on the
    preset `small` (407 against 227 µs) and 1.08 times on `default` (2.88 against 2.66 ms); medians of 41 alternating
    passes on one thread, in CPU time.
    """

    averages: ClassVar = {"exp_avg": 0.0, "exp_avg_sq": 0.0}

    def __init__(self, groups: list[dict[str, Any]], lr: float, betas: tuple[float, float], eps: float = 1e-8) -> None:
        super().__init__(groups, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": 0.0})

    def update(self, group: dict[str, Any], params: list[Tensor], gradients: list[Tensor], *kept: list[Tensor]) -> None:
        """Decay the parameters, and move each by its average gradient over the root of its average square."""
        # The group's first parameter keeps the count, with a gradient or without.
        counted = self.state[group["params"][0]]
        if "step" not in counted:
            counted["step"] = torch.zeros((), device=params[0].device)
        counted["step"] += 1
        torch._fused_adamw_(
            params,
            gradients,
            kept[0],
            kept[1],
            [],
            [counted["step"]] * len(params),
            lr=group["lr"],
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            amsgrad=False,
            maximize=False,
        )


def make_optimizer(config: TrainConfig, network: Autoencoder) -> torch.optim.Optimizer:
    """The optimizer a config names, over the network's parameters.

    Gradients are not clipped: AdamW moves a weight by about the learning rate however large its gradient is, and
    measured on these networks clipping took 5 % of a step and gained nothing.
    """
    if config.optimizer == "tf1-rmsprop":
        return Tf1RMSProp(network.parameters(), config.lr)
    weights = [*network.encoder.parameters(), *network.decoder.parameters()]
    matrices = [parameter for parameter in weights if parameter.ndim > 1]
    vectors = [parameter for parameter in weights if parameter.ndim < 2]
    groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    if network.learned is not None:
        groups.append({"params": list(network.learned.parameters()), "weight_decay": 0.0, "faster": _LEARNED_FASTER})
    return FusedAdamW(groups, config.lr, betas=_BETAS)


def learning_rate(config: TrainConfig, step: int, total: int) -> float:
    """The learning rate of a step, of `total` in the run."""
    if config.schedule == "constant":
        return config.lr
    warm = max(1, round(_WARM * total))
    if step < warm:
        return config.lr * (step + 1) / warm
    return config.lr * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, total - warm)))
