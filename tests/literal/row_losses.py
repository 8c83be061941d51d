# Copyright (c) sdd_mm contributors. All rights reserved.
"""LD of equation 8, class by class: KD, DKD and NKD of one row of logits.

A row is a list of scalar tensors, of floats where no gradient is wanted, or
of ``decimal.Decimal`` for any number of digits. Then the parameters are
integers or decimals as well.
"""
import math
from decimal import Decimal

from torch import Tensor


def exp(value):
    """The exponential of a tensor, a decimal, or a float."""
    return math.exp(value) if isinstance(value, float) else value.exp()


def log(value):
    """The natural logarithm of a tensor, a decimal, or a float."""
    if isinstance(value, Tensor):
        return value.log()
    return value.ln() if isinstance(value, Decimal) else math.log(value)


def softmax(row: list, tau=1) -> list:
    """sigma(row / tau)."""
    peak = max(row)
    powers = [exp((value - peak) / tau) for value in row]
    total = sum(powers)
    return [power / total for power in powers]


def others(row: list, label: int) -> list:
    """The row without the class ``label``."""
    return [value for class_, value in enumerate(row) if class_ != label]


def kl(first: list, second: list):
    """KL(first || second) of two distributions."""
    total = 0
    for p, q in zip(first, second):
        if p > 0:
            total = total + p * (log(p) - log(q))
    return total


def cross_entropy(first: list, second: list):
    """-sum of first times log second."""
    total = 0
    for p, q in zip(first, second):
        total = total - p * log(q)
    return total


def kd(student: list, teacher: list, label: int, tau):
    """Equation 1, KL(sigma(P_T) || sigma(P_S)), with temperature.

    Hinton et al. (2015) soften both by tau and multiply by tau squared. The
    label is not used.
    """
    return tau**2 * kl(softmax(teacher, tau), softmax(student, tau))


def dkd(student: list, teacher: list, label: int, alpha, beta, tau):
    """Zhao et al. (2022): alpha TCKD + beta NCKD, times tau squared.

    TCKD is the divergence of the binary distributions (target class, all
    others); NCKD that of the distributions over the other classes alone.
    """
    p_teacher = softmax(teacher, tau)
    p_student = softmax(student, tau)
    b_teacher = [p_teacher[label], sum(others(p_teacher, label))]
    b_student = [p_student[label], sum(others(p_student, label))]
    tckd = kl(b_teacher, b_student)
    nckd = kl(
        softmax(others(teacher, label), tau),
        softmax(others(student, label), tau))
    return tau**2 * (alpha * tckd + beta * nckd)


def nkd(student: list,
        teacher: list,
        label: int,
        gamma,
        tau,
        keep_target: bool = False):
    """Yang et al. (2023): -T_y log S_y - gamma tau^2 sum N(T) log N(S).

    N normalizes over the classes other than the target, at temperature tau;
    with ``keep_target`` over all classes, as in SDD's released code.
    """
    target = -softmax(teacher)[label] * log(softmax(student)[label])
    if not keep_target:
        student, teacher = others(student, label), others(teacher, label)
    rest = cross_entropy(softmax(teacher, tau), softmax(student, tau))
    return target + gamma * tau**2 * rest
