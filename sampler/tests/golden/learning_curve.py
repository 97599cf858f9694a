"""Reference values for the model of learning curves, by numpy 1.24 and scipy 1.10: python3 learning_curve.py > learning_curve.json

Written from the formulas, with explicit fits in place of closed forms: each curve is left out and the rest fitted anew.
"""

import json

import numpy as np
from scipy import stats

AT, UNTIL = 9.0, 27.0
RNG = np.random.default_rng(7)


def curve(budgets):
    last, gain, power = RNG.uniform(0.2, 0.8), RNG.uniform(0, 1), RNG.uniform(0.2, 1)
    losses = last + gain * budgets**-power + RNG.normal(0, 0.01, len(budgets))
    return [[float(b), float(l)] for b, l in zip(budgets, losses)]


def units(losses):
    losses = np.sort(losses)
    median = losses[len(losses) // 2]
    return median, (median - losses[len(losses) // 10]) / stats.norm.ppf(0.9)


def y_of(loss, unit):
    t = (loss - unit[0]) / unit[1]
    return np.where(t > 0, np.log1p(np.maximum(t, 0)), t)


def loss_of(y, unit):
    return unit[0] + unit[1] * (np.expm1(y) if y > 0 else y)


def shape(points, unit):
    budgets, losses = np.array(points).T
    y = y_of(losses, unit)
    end = budgets[-1]
    h = 2 * (1 - (budgets / end) ** -0.5)
    slope = np.polyfit(h, y, 1, w=np.sqrt(budgets / end))[0] if len(y) > 1 else 0.0
    return np.array([y[-1], slope * 2 * (1 - np.sqrt(end / UNTIL))])


def main():
    budgets = np.array([1.0, 2, 3, 5, 7, 9, 14, 20, 27])
    curves = [curve(budgets) for _ in range(12)]
    # One that diverges.
    curves[4] = curves[4][:7] + [[20.0, None]]
    alive = [i for i in range(12) if i != 4]
    ends = np.array([curves[i][-1][1] for i in alive])
    unit = units(ends)
    shapes = np.array([shape([p for p in c if p[0] <= AT], unit) for c in curves])
    mean_last = shapes[:, 0].mean()
    spread = shapes.std(axis=0)
    prior = np.array([0.0, 1.0, 0.0])

    def features(s):
        return np.array([1.0, s[1], s[0] - mean_last])

    x = np.array([features(shapes[i]) for i in alive])
    y = y_of(ends, unit) - shapes[alive, 0]
    penalty = np.diag((x**2).mean(axis=0))

    def fit(x, y):
        return prior + np.linalg.solve(x.T @ x + penalty, x.T @ (y - x @ prior))

    left_out = [y[i] - x[i] @ fit(np.delete(x, i, 0), np.delete(y, i)) for i in range(len(alive))]
    errors = dict(zip(alive, left_out))

    def likeness(s, i):
        return np.exp(-0.5 * 12 ** (1 / 3) * (((s - shapes[i]) / spread) ** 2).sum())

    def deviation(s, without=None):
        used = [i for i in alive if i != without]
        first = (1 + abs(s[1])) ** 2
        overall = (first + sum(errors[i] ** 2 for i in used)) / (1 + len(used))
        weights = np.array([likeness(s, i) for i in used])
        near = sum(w * errors[i] ** 2 for w, i in zip(weights, used))
        return np.sqrt((near + 4 * overall) / (weights.sum() + 4))

    scaled = np.sort([errors[i] / deviation(shapes[i], i) for i in alive])
    n = len(scaled)
    queries = []
    for points in [curve(budgets[:6]), curve(budgets[:3]), curve(budgets[2:3])]:
        s = shape(points, unit)
        weights = [likeness(s, i) for i in range(12)]
        diverging = (weights[4] + 4 * 1 / 13) / (sum(weights) + 4)
        quantiles = []
        for p in [0.05, 0.1, 0.3, 0.5, 0.7]:
            q = p / (1 - diverging)
            seen = np.interp(q * (n + 1) - 1, np.arange(n), scaled)
            error = (n * seen + 4 * stats.t.ppf(q, 4) / np.sqrt(2)) / (n + 4)
            centre = s[0] + features(s) @ fit(x, y)
            quantiles.append([p, float(loss_of(centre + deviation(s) * error, unit))])
        queries.append({"points": points, "diverging": float(diverging), "quantiles": quantiles})
    print(json.dumps({"at": AT, "until": UNTIL, "curves": curves, "queries": queries}, indent=1))


main()
