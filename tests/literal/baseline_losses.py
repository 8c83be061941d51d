# Copyright (c) sdd_mm contributors. All rights reserved.
"""The baselines' equations, number by number, on nested lists of floats."""
from math import exp, log, sqrt


def mean(values):
    values = list(values)
    return sum(values) / len(values)


def dot(x, y):
    return sum(a * b for a, b in zip(x, y, strict=True))


def norm(x):
    return sqrt(dot(x, x))


def smooth_l1(x, y):
    difference = abs(x - y)
    return difference**2 / 2 if difference < 1 else difference - 1 / 2


def difference(x, y):
    return [a - b for a, b in zip(x, y, strict=True)]


def unit(x):
    return [a / norm(x) if norm(x) > 0 else 0. for a in x]


def hint(student, teacher):
    """FitNet's mean squared error."""
    return mean((a - b)**2 for x, y in zip(student, teacher, strict=True)
                for a, b in zip(x, y, strict=True))


def masked_generation(student, teacher):
    """MGD's sum of squares of every sample."""
    return mean(dot(d, d) for d in map(difference, student, teacher))


def rkd(student, teacher, distance_weight, angle_weight):
    """The distances of all pairs and the angles of all triples."""
    batch = range(len(student))
    distances, angles = [], []
    for x in (student, teacher):
        far = [[norm(difference(x[i], x[j])) for j in batch] for i in batch]
        # two samples at one place are 1e-6 apart
        far = [[max(far[i][j], 1e-6) if i != j else 0. for j in batch]
               for i in batch]
        mu = mean(far[i][j] for i in batch for j in batch if i != j)
        distances.append([far[i][j] / mu for i in batch for j in batch])
        angles.append([
            dot(unit(difference(x[j], x[i])), unit(difference(x[k], x[i])))
            for i in batch for j in batch for k in batch
        ])
    return (distance_weight * mean(map(smooth_l1, *distances)) +
            angle_weight * mean(map(smooth_l1, *angles)))


def similarity(student, teacher):
    """SP: the rows of the batch's inner products, of length 1."""
    grams = [[unit([dot(x, y) for y in side]) for x in side]
             for side in (student, teacher)]
    return sum((a - b)**2 for x, y in zip(*grams)
               for a, b in zip(x, y)) / len(student)**2


def pkt(student, teacher):
    """The divergence of how similar samples are."""
    probabilities = []
    for side in (student, teacher):
        side = [[a / (norm(x) + 1e-7) for a in x] for x in side]
        kernel = [[(dot(x, y) + 1) / 2 for y in side] for x in side]
        probabilities.append([[k / sum(row) for k in row] for row in kernel])
    return mean(q * log((q + 1e-7) / (p + 1e-7)) for row in zip(*probabilities)
                for p, q in zip(*row))


def context(student, teacher):
    """ReviewKD's errors of two maps, (C, h, w) of every sample."""
    height = len(student[0][0])
    grids = [grid for grid in (4, 2, 1) if grid < height]
    weights = [1 / 2**i for i in range(len(grids) + 1)]
    errors = [maps_error(student, teacher)]
    errors += [
        maps_error(*(averages(side, grid) for side in (student, teacher)))
        for grid in grids
    ]
    return dot(weights, errors) / sum(weights)


def maps_error(student, teacher):
    return mean((a - b)**2 for x, y in zip(student, teacher)
                for c, d in zip(x, y) for u, v in zip(c, d)
                for a, b in zip(u, v))


def averages(side, grid):
    """The average of every cell; cells overlap if they do not fit."""

    def cell(channel, i, j):
        height, width = len(channel), len(channel[0])
        return mean(
            channel[y][x]
            for y in range(i * height // grid, -(-(i + 1) * height // grid))
            for x in range(j * width // grid, -(-(j + 1) * width // grid)))

    return [[[[cell(channel, i, j) for j in range(grid)] for i in range(grid)]
             for channel in sample] for sample in side]


def contrastive_scores(embedding, bank, index, temperature):
    return [[exp(dot(bank[k], v) / temperature) for k in row]
            for v, row in zip(embedding, index, strict=True)]


def contrastive(scores, num_data):
    """CRD: the image itself against its negatives."""
    noise = (len(scores[0]) - 1) / num_data
    return -mean(
        log(u / (u + noise + 1e-7)) +
        sum(log(noise / (v + noise + 1e-7)) for v in others)
        for u, *others in scores)


def rotation_relations(projection):
    """Cosines of every rotated view and every normal one."""
    normal = [row for i, row in enumerate(projection) if i % 4 == 0]
    return [[dot(unit(row), unit(other)) for other in normal]
            for i, row in enumerate(projection) if i % 4]


def kept(scores, target, ratio):
    """Whether a row is right or among the best of the wrong ones."""
    rank = [
        sum(score > row[column] for score in row)
        for row, column in zip(scores, target, strict=True)
    ]
    wrong = sorted((r, i) for i, r in enumerate(rank) if r)
    best = {i for _, i in wrong[:int(len(wrong) * ratio)]}
    return [r == 0 or i in best for i, r in enumerate(rank)]


def relation(student, teacher, kept, tau):
    """The divergence of the rows that are kept."""

    def divergence(s, t):
        p, q = ([exp(x / tau) / sum(exp(y / tau) for y in row) for x in row]
                for row in (s, t))
        return tau**2 * sum(b * log(b / a) for a, b in zip(p, q))

    return mean(
        divergence(s, t) for s, t, keep in zip(student, teacher, kept) if keep)
