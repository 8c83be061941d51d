# Copyright (c) sdd_mm contributors. All rights reserved.
"""The criteria of a cell as modules (LD of equation 8)."""
from typing import Optional, Tuple

from mmrazor.registry import MODELS
from torch import Tensor, nn

from ...functional import dkd_loss, kd_loss, nkd_loss, rld_loss, standardize
from ...functional._tensors import check_positive


class RowCriterion(nn.Module):
    """Base of the criteria: ``(..., K)`` logits to ``(...)`` losses.

    Args:
        tau (float): Temperature.
        standardize (bool): Whether rows of both networks become z-scores
            first, see :func:`sdd_mm.functional.standardize`. Then choose
            ``tau`` by the number of classes. Defaults to False.
    """
    needs_labels = True

    def __init__(self, tau: float, standardize: bool = False) -> None:
        super().__init__()
        check_positive('tau', tau)
        self.tau = tau
        self.standardize = standardize

    def rows(self, student: Tensor, teacher: Tensor) -> Tuple[Tensor, Tensor]:
        """The rows that are compared."""
        if not self.standardize:
            return student, teacher
        return standardize(student), standardize(teacher)

    def described(self, *names: str) -> str:
        """The settings of these names, and whether rows are z-scores."""
        if self.standardize:
            names += ('standardize', )
        return ', '.join(f'{name}={getattr(self, name)}' for name in names)


@MODELS.register_module()
class KDCriterion(RowCriterion):
    """Knowledge distillation, see :func:`sdd_mm.functional.kd_loss`.

    Args:
        tau (float): Temperature. Defaults to 4.0.
        standardize (bool): See :class:`RowCriterion`. Defaults to False.

    Examples:
        >>> # in a config
        >>> criterion = dict(type='KDCriterion', tau=4.0)
    """
    needs_labels = False

    def __init__(self, tau: float = 4.0, standardize: bool = False) -> None:
        super().__init__(tau, standardize)

    def forward(self,
                student: Tensor,
                teacher: Tensor,
                target: Optional[Tensor] = None) -> Tensor:
        """Loss of every row, (...); ``target`` is not used."""
        return kd_loss(*self.rows(student, teacher), self.tau)

    def extra_repr(self) -> str:
        return self.described('tau')


@MODELS.register_module()
class DKDCriterion(RowCriterion):
    """Decoupled distillation, see :func:`sdd_mm.functional.dkd_loss`.

    Args:
        alpha (float): Weight of the target class part. Defaults to 1.0.
        beta (float): Weight of the non-target part. Defaults to 8.0.
        tau (float): Temperature. Defaults to 4.0.
        standardize (bool): See :class:`RowCriterion`. Defaults to False.

    Examples:
        >>> # in a config
        >>> criterion = dict(type='DKDCriterion', beta=8.0, tau=4.0)
    """

    def __init__(self,
                 alpha: float = 1.0,
                 beta: float = 8.0,
                 tau: float = 4.0,
                 standardize: bool = False) -> None:
        super().__init__(tau, standardize)
        self.alpha = alpha
        self.beta = beta

    def forward(self, student: Tensor, teacher: Tensor,
                target: Tensor) -> Tensor:
        """Loss of every row, (...)."""
        return dkd_loss(*self.rows(student, teacher), target, self.alpha,
                        self.beta, self.tau)

    def extra_repr(self) -> str:
        return self.described('alpha', 'beta', 'tau')


@MODELS.register_module()
class NKDCriterion(RowCriterion):
    """Normalized distillation, see :func:`sdd_mm.functional.nkd_loss`.

    Args:
        gamma (float): Weight of the non-target part. Defaults to 1.5.
        tau (float): Temperature of the non-target part. Defaults to 1.0.
        keep_target (bool): Whether the second part runs over all classes, as
            the authors of SDD released it. Defaults to False.
        standardize (bool): See :class:`RowCriterion`. Defaults to False.

    Examples:
        >>> # in a config
        >>> criterion = dict(type='NKDCriterion', gamma=1.5, tau=1.0)
    """

    def __init__(self,
                 gamma: float = 1.5,
                 tau: float = 1.0,
                 keep_target: bool = False,
                 standardize: bool = False) -> None:
        super().__init__(tau, standardize)
        self.gamma = gamma
        self.keep_target = keep_target

    def forward(self, student: Tensor, teacher: Tensor,
                target: Tensor) -> Tensor:
        """Loss of every row, (...)."""
        return nkd_loss(*self.rows(student, teacher), target, self.gamma,
                        self.tau, self.keep_target)

    def extra_repr(self) -> str:
        return self.described('gamma', 'tau', 'keep_target')


@MODELS.register_module()
class RLDCriterion(RowCriterion):
    """Refined distillation, see :func:`sdd_mm.functional.rld_loss`.

    Args:
        alpha (float): Weight of the part of the target. Defaults to 1.0.
        beta (float): Weight of the part below it. Defaults to 8.0.
        tau (float): Temperature of that part. Defaults to 4.0.
        tau_confidence (float): Temperature of the part of the target.
            Defaults to 1.0.
        standardize (bool): See :class:`RowCriterion`. Defaults to False.

    Examples:
        >>> # in a config
        >>> criterion = dict(type='RLDCriterion', beta=8.0, tau=4.0)
    """

    def __init__(self,
                 alpha: float = 1.0,
                 beta: float = 8.0,
                 tau: float = 4.0,
                 tau_confidence: float = 1.0,
                 standardize: bool = False) -> None:
        super().__init__(tau, standardize)
        check_positive('tau_confidence', tau_confidence)
        self.alpha = alpha
        self.beta = beta
        self.tau_confidence = tau_confidence

    def forward(self, student: Tensor, teacher: Tensor,
                target: Tensor) -> Tensor:
        """Loss of every row, (...)."""
        return rld_loss(*self.rows(student, teacher), target, self.alpha,
                        self.beta, self.tau, self.tau_confidence)

    def extra_repr(self) -> str:
        return self.described('alpha', 'beta', 'tau', 'tau_confidence')
