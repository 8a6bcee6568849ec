"""Optimizers and learning-rate schedules."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, ClassVar, overload

import torch
from torch import Tensor

from aekit.training.config import TrainConfig
from aekit.training.grouped import GroupedNetworks
from aekit.training.networks import Autoencoder
from aekit.training.team import Team

_BETAS = (0.9, 0.97)
"""Decay of adamw's averages of gradients and of squared gradients. 0.97 is less than the usual 0.999: a shorter memory
suits runs of a few thousand steps."""
_LEARNED_FASTER = 5.0
"""Factor on the learning rate of `network.learned`. It has only a few numbers for each dimension of the code, so it
can't overfit. Small networks in it have weight decay."""
_WARM = 0.03
"""Share of a one-cycle run over which the learning rate rises."""


class _Optimizer(torch.optim.Optimizer, ABC):
    """Base of our optimizers: it keeps a few averages of each parameter and updates a whole group in one call."""

    averages: ClassVar[dict[str, float]]
    """Initial value of each average, by name."""

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any], team: Team) -> None:
        """The members of the team update parts of the parameters."""
        super().__init__(params, defaults)
        self._team = team
        self._cache: dict[int, list[list[Tensor]]] = {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take over saved averages. torch's load_state_dict calls this too."""
        super().__setstate__(state)
        self._cache = {}

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Update every parameter that has a gradient once."""
        assert closure is None
        for number, group in enumerate(self.param_groups):
            params = [param for param in group["params"] if param.grad is not None]
            if params:
                self.begin(group)
                lists = params, [param.grad for param in params], *self._averages(number, params)
                self._team.over(partial(self._update, group), *lists)
        return None

    def begin(self, group: dict[str, Any]) -> None:
        """Prepare an update of a group."""

    @torch.no_grad()
    def _update(self, group: dict[str, Any], *lists: list[Tensor]) -> None:
        self.update(group, *lists)  # each thread must turn gradients off for itself

    @abstractmethod
    def update(
        self, group: dict[str, Any], params: list[Tensor], gradients: list[Tensor], *moments: list[Tensor]
    ) -> None:
        """Change parameters of a group and their averages `moments`, one list for each entry of `averages`.

        Several threads call this at a time, each with other parameters of the group.
        """

    def _averages(self, number: int, params: list[Tensor]) -> list[list[Tensor]]:
        # Looking up each average in the state takes as long as updating a small network. So the lists are cached
        # while every parameter of the group has a gradient.
        moments = self._cache.get(number)
        if moments is None or len(moments[0]) != len(params):
            for param in params:
                for name, start in self.averages.items():
                    if name not in self.state[param]:
                        self.state[param][name] = torch.full_like(param, start)
            moments = [[self.state[param][name] for param in params] for name in self.averages]
            if len(params) == len(self.param_groups[number]["params"]):
                self._cache[number] = moments
        return moments


class Tf1RMSProp(_Optimizer):
    """RMSProp as TensorFlow 1 computes it. The book's runs used it.

    It differs from torch's RMSprop in two ways: the mean square starts at 1 instead of 0, and epsilon is added inside
    the root (TensorFlow 1, RMSPropOptimizer: decay 0.9, momentum 0, epsilon 1e-10).
    """

    averages: ClassVar = {"mean_square": 1.0}

    def __init__(
        self, params: Iterable[Tensor], lr: float, decay: float = 0.9, eps: float = 1e-10, team: Team | None = None
    ) -> None:
        super().__init__(params, {"lr": lr, "decay": decay, "eps": eps}, team or Team())

    def update(
        self, group: dict[str, Any], params: list[Tensor], gradients: list[Tensor], *moments: list[Tensor]
    ) -> None:
        """Move each parameter by its gradient over the root of its mean square."""
        (mean_squares,) = moments
        torch._foreach_mul_(mean_squares, group["decay"])
        torch._foreach_addcmul_(mean_squares, gradients, gradients, 1 - group["decay"])
        roots = torch._foreach_add(mean_squares, group["eps"])
        torch._foreach_sqrt_(roots)
        torch._foreach_addcdiv_(params, gradients, roots, -group["lr"])


class FusedAdamW(_Optimizer):
    """AdamW (Loshchilov & Hutter 2019) by torch's fused kernel, called with little overhead.

    torch.optim.AdamW counts the steps of each parameter in a tensor of its own and sorts parameters by device each
    step. One count per group is enough here. A step of torch.optim.AdamW(fused=True) takes 1.7 times as long on the
    preset `small` (309 against 179 µs) and 1.1 times as long on `default` (2.22 against 1.95 ms). The figures are
    medians of 41 alternating passes on one thread, in CPU time, by benchmarks/training_speed.py.
    """

    averages: ClassVar = {"exp_avg": 0.0, "exp_avg_sq": 0.0}

    def __init__(
        self,
        groups: list[dict[str, Any]],
        lr: float,
        betas: tuple[float, float],
        eps: float = 1e-8,
        team: Team | None = None,
    ) -> None:
        super().__init__(groups, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": 0.0}, team or Team())

    def begin(self, group: dict[str, Any]) -> None:
        """Count the step. The state of the group's first parameter has the count, even if it has no gradient."""
        first = group["params"][0]
        if "step" not in self.state[first]:
            self.state[first]["step"] = torch.zeros((), device=first.device)
        self.state[first]["step"] += 1

    def update(
        self, group: dict[str, Any], params: list[Tensor], gradients: list[Tensor], *moments: list[Tensor]
    ) -> None:
        """Decay the parameters, and move each by its average gradient over the root of its average square."""
        averages, squares = moments
        torch._fused_adamw_(
            params,
            gradients,
            averages,
            squares,
            [],
            [self.state[group["params"][0]]["step"]] * len(params),
            lr=group["lr"],
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            amsgrad=False,
            maximize=False,
        )


def make_optimizer(config: TrainConfig, network: Autoencoder, team: Team) -> torch.optim.Optimizer:
    """Make the optimizer that the config names, for the parameters of the network. The team updates them.

    Gradients are not clipped. AdamW moves a weight by about the learning rate, however large its gradient is. On these
    networks clipping took 5 % of a step and improved nothing.
    """
    if config.optimizer == "tf1-rmsprop":
        return Tf1RMSProp(network.parameters(), config.lr, team=team)
    weights = [*network.encoder.parameters(), *network.decoder.parameters()]
    matrices = [parameter for parameter in weights if parameter.ndim > 1]
    vectors = [parameter for parameter in weights if parameter.ndim < 2]
    groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    if network.learned is not None:
        networks = [part for part in network.learned.modules() if isinstance(part, GroupedNetworks)]
        decayed = [parameter for part in networks for parameter in part.parameters()]
        kept = {id(parameter) for parameter in decayed}
        plain = [parameter for parameter in network.learned.parameters() if id(parameter) not in kept]
        groups.append({"params": plain, "weight_decay": 0.0, "faster": _LEARNED_FASTER})
        if decayed:
            groups.append({"params": decayed, "weight_decay": config.weight_decay, "faster": _LEARNED_FASTER})
    return FusedAdamW(groups, config.lr, betas=_BETAS, team=team)


_GRID_BETAS = (0.9, 0.95)
"""Decays of AdamW's averages for grid networks. Batches of crops differ more than batches of whole images."""
_TRANSFORM_SLOWER, _PRIOR_FASTER = 0.1, 3.0
"""Factors on the learning rate of a grid network's block transforms, which start near their best, and of the latents'
probabilities."""


def make_grid_optimizer(config: TrainConfig, network: Autoencoder, team: Team) -> torch.optim.Optimizer:
    """Make the optimizer of a grid network. The team updates its parameters.

    Only the convolutional branches have weight decay.
    """
    halves = [*network.encoder.named_parameters(), *network.decoder.named_parameters()]
    transforms = [parameter for name, parameter in halves if name == "transform"]
    branches = [parameter for name, parameter in halves if name != "transform"]
    groups: list[dict[str, Any]] = [
        {"params": branches, "weight_decay": config.weight_decay},
        {"params": transforms, "weight_decay": 0.0, "faster": _TRANSFORM_SLOWER},
    ]
    if network.learned is not None:
        learned = [parameter for parameter in network.learned.parameters() if parameter.requires_grad]
        groups.append({"params": learned, "weight_decay": 0.0, "faster": _PRIOR_FASTER})
    return FusedAdamW(groups, config.lr, betas=_GRID_BETAS, team=team)


_ANEW = 0.3
"""Learning rate at the start of the last part of a run, as a share of the peak."""


def learning_rate(config: TrainConfig, step: int, total: int, last_share: float = 0.0) -> float:
    """Return the learning rate of a step (0 for the first) in a run of `total` steps.

    In the last part of the run, `last_share` of all steps, the rate starts again and falls to 0.
    """
    if config.schedule == "constant":
        return config.lr
    warm, last = max(1, round(_WARM * total)), math.ceil((1 - last_share) * total)
    if step < warm:
        return config.lr * (step + 1) / warm
    if last <= step:
        return config.lr * _ANEW * _cosine((step - last) / (total - last))
    return config.lr * _cosine((step - warm) / max(1, total - warm))


def _cosine(progress: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * progress))
