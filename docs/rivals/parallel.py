"""Optuna with many simulated workers, on the functions and with the durations of `sampler bench --workers`.

    PYTHON docs/rivals/parallel.py --benchmark mf-hartmann6-good --tool optuna_tpe --workers 8 --total 16 --seeds 0..20 --out OUT

PYTHON has optuna and numpy. Writes OUT/BENCHMARK__TOOL__SEED.csv, which `sampler bench --rivals OUT` reads. Time is
simulated: an evaluation takes its budget, in largest budgets, times exp(0.3 N(0, 1)) (1 for one worker); a free worker
asks at once; what is asked sees all that has ended by then. Every rung is paid in full, as by `sampler bench`.

Tools: `optuna_tpe` (full budgets only) and `optuna_tpe_hb` (with HyperbandPruner), both with `constant_liar`, which the
documentation of Optuna recommends where several workers ask; `optuna_tpe_noliar` without; `random` (full budgets only).
"""

import argparse
import csv
import heapq
import math
import os

import numpy as np
import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState

SPREAD = 0.3
ETA = 3


class CountingOnes:
    """Falkner et al. 2018: minus the share of ones; numbers are seen by `budget` coin tosses each."""

    rungs, max_budget = (9, 27, 81, 243, 729), 729

    def __init__(self, count):
        self.count = count
        self.space = {f"cat_{i}": CategoricalDistribution([0, 1]) for i in range(count)}
        self.space |= {f"cont_{i}": FloatDistribution(0, 1) for i in range(count)}

    def parts(self, values):
        categories = sum(values[f"cat_{i}"] for i in range(self.count))
        return categories, [values[f"cont_{i}"] for i in range(self.count)]

    def evaluate(self, values, budget, rng):
        ones, numbers = self.parts(values)
        tosses = max(1, int(budget))
        return -(ones + sum(rng.binomial(tosses, p) / tosses for p in numbers)) / (2 * self.count)

    def regret(self, values):
        ones, numbers = self.parts(values)
        return 1 - (ones + sum(numbers)) / (2 * self.count)


class Branin:
    """Branin's function; low budgets change one of its constants and add noise."""

    rungs, max_budget = tuple(100 / 3**k for k in (3, 2, 1, 0)), 100
    space = {"x1": FloatDistribution(-5, 10), "x2": FloatDistribution(0, 15)}

    def value(self, values, change):
        x, y = values["x1"], values["x2"]
        b = 5.1 / (4 * math.pi**2) - change
        return (y - b * x * x + 5 / math.pi * x - 6) ** 2 + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x) + 10

    def evaluate(self, values, budget, rng):
        distance = 1 - budget / self.max_budget
        return self.value(values, 0.1 * distance) + distance * rng.normal()

    def regret(self, values):
        return self.value(values, 0.0) - 0.39788735772973816


class Hartmann:
    """mf-prior-bench's Hartmann functions: low budgets lower the weights and add half-normal noise."""

    rungs, max_budget = tuple(100 / 3**k for k in (3, 2, 1, 0)), 100
    weights = np.array([1.0, 1.2, 3.0, 3.2])
    widths = {
        3: [[3, 10, 30], [0.1, 10, 35], [3, 10, 30], [0.1, 10, 35]],
        6: [
            [10, 3, 17, 3.5, 1.7, 8],
            [0.05, 10, 17, 0.1, 8, 14],
            [3, 3.5, 1.7, 10, 17, 8],
            [17, 8, 0.05, 10, 0.1, 14],
        ],
    }
    centres = {
        3: [[3689, 1170, 2673], [4699, 4387, 7470], [1091, 8732, 5547], [381, 5743, 8828]],
        6: [
            [1312, 1696, 5569, 124, 8283, 5886],
            [2329, 4135, 8307, 3736, 1004, 9991],
            [2348, 1451, 3522, 2883, 3047, 6650],
            [4047, 8828, 8732, 5743, 1091, 381],
        ],
    }
    optima = {3: -3.86278214782076, 6: -3.32236801141551}

    def __init__(self, dimensions, bias, noise):
        self.bias, self.noise, self.optimum = bias, noise, self.optima[dimensions]
        self.a, self.p = np.array(self.widths[dimensions]), np.array(self.centres[dimensions]) * 1e-4
        self.space = {f"x_{i}": FloatDistribution(0, 1) for i in range(dimensions)}

    def value(self, values, weights):
        x = np.array([values[name] for name in self.space])
        return -float(np.sum(weights * np.exp(-np.sum(self.a * (x - self.p) ** 2, axis=1))))

    def evaluate(self, values, budget, rng):
        distance = 1 - math.log(budget) / math.log(100)
        return self.value(values, self.weights - self.bias * distance) + self.noise * distance * abs(rng.normal())

    def regret(self, values):
        return self.value(values, self.weights) - self.optimum


LEVELS = {"good": (0.5, 0.1), "moderate": (3.0, 3.0), "bad": (3.5, 4.0), "terrible": (4.0, 5.0)}


def benchmark(name):
    if name.startswith("counting-ones-"):
        return CountingOnes(int(name.removeprefix("counting-ones-")))
    if name == "branin":
        return Branin()
    function, _, level = name.removeprefix("mf-hartmann").partition("-")
    return Hartmann(int(function), *LEVELS[level])


def study_for(tool, problem, seed):
    pruner = optuna.pruners.NopPruner()
    if tool == "optuna_tpe_hb":
        pruner = optuna.pruners.HyperbandPruner(
            min_resource=max(1, int(problem.rungs[0])), max_resource=problem.max_budget, reduction_factor=ETA
        )
    if tool == "random":
        sampler = optuna.samplers.RandomSampler(seed=seed)
    else:
        sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=tool != "optuna_tpe_noliar")
    return optuna.create_study(sampler=sampler, pruner=pruner)


def simulate(problem, tool, seed, workers, total):
    """Rows of evaluations in the order of their starts."""
    study = study_for(tool, problem, seed)
    losses, durations = np.random.default_rng([seed, 1]), np.random.default_rng([seed, 2])
    rungs = problem.rungs if tool == "optuna_tpe_hb" else (problem.max_budget,)
    rows, running, spent, continued, now = [], [], 0.0, 0.0, 0.0

    def start(trial, rung):
        nonlocal spent, continued
        budget = rungs[rung]
        below = rungs[rung - 1] if rung else 0.0
        loss = problem.evaluate(trial.params, budget, losses)
        spent += budget / problem.max_budget
        continued += (budget - below) / problem.max_budget
        factor = math.exp(SPREAD * durations.normal()) if workers > 1 else 1.0
        ends = now + budget / problem.max_budget * factor
        heapq.heappush(running, (ends, len(rows), trial, rung, loss))
        rows.append((len(rows), budget, loss, problem.regret(trial.params), spent, continued, now, ends))

    while True:
        while len(running) < workers and now < total:
            start(study.ask(problem.space), 0)
        if not running:
            return rows
        now, _, trial, rung, loss = heapq.heappop(running)
        is_last = rung + 1 == len(rungs)
        if not is_last:
            trial.report(loss, round(rungs[rung]))
            if trial.should_prune():
                study.tell(trial, state=TrialState.PRUNED)
            elif now < total:
                start(trial, rung + 1)
        else:
            study.tell(trial, loss)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--benchmark", required=True)
    parser.add_argument("--tool", required=True)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--total", type=float, default=16.0)
    parser.add_argument("--seeds", default="0..20")
    parser.add_argument("--out", required=True)
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    os.makedirs(arguments.out, exist_ok=True)
    first, last = map(int, arguments.seeds.split(".."))
    for name in arguments.benchmark.split(","):
        for tool in arguments.tool.split(","):
            for seed in range(first, last):
                rows = simulate(benchmark(name), tool, seed, arguments.workers, arguments.total)
                with open(f"{arguments.out}/{name}__{tool}__{seed}.csv", "w", newline="") as file:
                    writer = csv.writer(file, lineterminator="\n")
                    header = "eval budget loss true_regret cum_restart cum_cont started_at ended_at"
                    writer.writerow(header.split())
                    writer.writerows(rows)


if __name__ == "__main__":
    main()
