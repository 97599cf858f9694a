"""Other optimizers on pools of real learning curves, measured as `sampler bench --pool` measures Tandem's own methods.

    VENV/bin/python docs/rivals/pools.py run --rival dehb --pool POOLS/NAME.csv.gz --seeds 0..10 --total 64 --out CURVES
    sampler bench --pool POOLS/NAME.csv.gz --method tandem --rivals CURVES --seeds 0..10 --total 64
    sampler bench --pool POOLS/NAME.csv.gz --method tandem,bohb,hyperband,tpe,random --seeds 0..10 --total 64 --out CURVES
    python3 docs/rivals/pools.py summary --out CURVES

A pool is NAME.csv[.gz], with the space in NAME.space.json beside it: one row a training, one column a hyperparameter, then
`loss_<budget>`, `inf` where it had diverged. A configuration is answered by the nearest row in unit coordinates. `run`
writes one file NAME__RIVAL__SEED.csv a run; `summary` reads them all, Tandem's own too, and divides the mean regret of
`tandem` by that of the best other method. The best of few runs is chance: `--fewest` leaves such methods out there.
Ordinals and categories go to the rivals as numbers of levels.

Rungs are 1, 1/3, 1/9, … of the largest recorded budget, rounded, as long as they are at least 1/27 of it, rounded up.
Every evaluation is paid in full, except where one training goes on from rung to rung, which no other method here may:
`optuna_hyperband` pays what it adds; with `summary --in-full` it pays like the others.

    optuna_random, optuna_tpe   optuna: largest budget only; a diverged trial has the value infinity
    optuna_hyperband            optuna: TPE with HyperbandPruner, asked at every rung; a diverged trial is pruned there
    hpbandster                  hpbandster: BOHB's models and brackets in one process, without Pyro; diverged = crashed
    dehb                        dehb: ask and tell; a diverged evaluation has the fitness 1e9
    smac                        smac: multi-fidelity facade (Hyperband); diverged = the largest loss so far, 1 at least
    dyhpo                       the authors' program (their folder on PYTHONPATH, with torch, gpytorch and scikit-learn)

`dyhpo` chooses among 2,000 rows of the pool (drawn by the seed, all where there are fewer), so that none is trained twice,
and goes on in steps of about 1/9 of the largest budget, each paid by what it adds. It is told scores from 1, the pool's
best loss, to 0, at or above the 95 % quantile of all recorded losses or diverged; categories are numbers of levels.
"""

import argparse
import csv
import gzip
import itertools
import json
import logging
import math
import pathlib
import statistics
import tempfile
import time
import warnings

POINTS = (8, 16, 32, 64)
ETA = 3
SMALLEST_RATIO = 0.01
DYHPO_STEPS, DYHPO_ROWS = 9, 2000
HEADER = ["eval", "budget", "loss", "true_regret", "cum_restart", "cum_cont"]


def opened(path):
    return gzip.open(path, "rt", newline="") if path.suffix == ".gz" else open(path, newline="")


class Hyperparameter:
    """What a space file says of one; levels are known by their numbers."""

    def __init__(self, raw):
        if raw["type"] == "constant" or not {"condition", "conditions"}.isdisjoint(raw):
            raise ValueError(f"{raw['name']}: constants and conditions are not supported")
        self.name, self.kind = raw["name"], raw["type"]
        self.levels = raw.get("sequence") or raw.get("choices")
        self.log = raw.get("log", False)
        self.lower, self.upper = (0, len(self.levels) - 1) if self.levels else (raw["lower"], raw["upper"])
        self.is_whole = bool(self.levels) or self.kind == "integer"

    def parse(self, field):
        if not self.levels:
            return float(field)
        words = [str(level).lower() for level in self.levels]
        if field.lower() in words:
            return words.index(field.lower())
        return self.levels.index(float(field))

    def coordinate(self, value):
        """In [0, 1]; a level's is its number."""
        if self.levels:
            return float(value)
        scale = math.log if self.log else float
        share = (scale(value) - scale(self.lower)) / (scale(self.upper) - scale(self.lower))
        return min(max(share, 0.0), 1.0)


class Pool:
    def __init__(self, path):
        import numpy

        name = path.name.removesuffix(".gz").removesuffix(".csv")
        space = json.loads(path.with_name(f"{name}.space.json").read_text())["hyperparameters"]
        self.name, self.space = name, [Hyperparameter(raw) for raw in space]
        with opened(path) as file:
            rows = list(csv.DictReader(file))
        columns = sorted((c for c in rows[0] if c.startswith("loss_")), key=lambda c: float(c.removeprefix("loss_")))
        self.budgets = [float(column.removeprefix("loss_")) for column in columns]
        self.values = [{h.name: h.parse(row[h.name]) for h in self.space} for row in rows]
        self.vectors = numpy.array([self.encode(values) for values in self.values])
        losses = numpy.array([[float(row[column]) for column in columns] for row in rows])
        # Once diverged, always diverged.
        self.losses = numpy.where(numpy.maximum.accumulate(numpy.isinf(losses), axis=1), numpy.inf, losses)
        self.is_category = numpy.array([h.kind == "categorical" for h in self.space])
        last = self.losses[:, -1]
        self.best, self.worst = last.min(), last[numpy.isfinite(last)].max()
        self.median = min(numpy.median(last), self.worst)
        least, rung, self.ladder = math.ceil(self.budgets[-1] / 27), self.budgets[-1], []
        while rung >= least * (1 - 1e-9):
            self.ladder.insert(0, float(round(rung)))
            rung /= ETA

    def encode(self, values):
        return [h.coordinate(values[h.name]) for h in self.space]

    def place(self, values):
        """The nearest row, the first of those equally near."""
        differences = abs(self.vectors - self.encode(values))
        differences[:, self.is_category] = differences[:, self.is_category] > 0.5
        return int((differences**2).sum(axis=1).argmin())

    def loss(self, row, budget):
        """At the recorded budget nearest to one, the smaller of two equally near."""
        column = min(range(len(self.budgets)), key=lambda i: abs(self.budgets[i] - budget))
        return float(self.losses[row, column])

    def regret(self, row):
        return float((min(self.losses[row, -1], self.worst) - self.best) / (self.median - self.best))


class Spent(Exception):
    """The run has had what it may spend."""


class Run:
    """What a rival asks for and is answered, with what it pays."""

    def __init__(self, pool, total):
        self.pool, self.total = pool, total
        self.rows, self.spent = [], 0.0

    def evaluate(self, values, rung, paid=0.0):
        """Trains a configuration up to a rung, `paid` of which is paid for; its loss, infinite if it diverged."""
        return self.train_row(self.pool.place(values), self.pool.ladder[rung], paid)

    def train_row(self, row, budget, paid):
        if self.spent >= self.total:
            raise Spent
        loss = self.pool.loss(row, budget)
        self.spent += (budget - paid) / self.pool.budgets[-1]
        self.rows.append((len(self.rows), budget, loss, self.pool.regret(row), self.spent, self.spent))
        return loss

    def rung(self, fidelity):
        """The number of the rung nearest to a fidelity that a rival computed itself."""
        ladder = self.pool.ladder
        return min(range(len(ladder)), key=lambda rung: abs(math.log(ladder[rung] / float(fidelity))))

    def fidelities(self):
        """The smallest, less what rounding may take from as many rungs, and the largest."""
        largest = self.pool.budgets[-1]
        return largest / ETA ** (len(self.pool.ladder) - 1) * (1 - 1e-9), largest


def configspace(pool, seed):
    from ConfigSpace import ConfigurationSpace
    from ConfigSpace import hyperparameters as kinds

    space = ConfigurationSpace(seed=seed)
    for h in pool.space:
        if h.kind == "categorical":
            one = kinds.CategoricalHyperparameter(h.name, list(range(len(h.levels))))
        elif h.is_whole:
            one = kinds.UniformIntegerHyperparameter(h.name, h.lower, h.upper, log=h.log)
        else:
            one = kinds.UniformFloatHyperparameter(h.name, h.lower, h.upper, log=h.log)
        space.add(one) if hasattr(space, "add") else space.add_hyperparameter(one)
    return space


def optuna_study(pool, sampler, pruner=None):
    import optuna
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    space = {}
    for h in pool.space:
        if h.kind == "categorical":
            space[h.name] = CategoricalDistribution(list(range(len(h.levels))))
        else:
            kind = IntDistribution if h.is_whole else FloatDistribution
            space[h.name] = kind(h.lower, h.upper, log=h.log)
    # The pruner's brackets depend on the study's name, which is random unless it is given.
    study = optuna.create_study(study_name=pool.name, sampler=sampler, pruner=pruner or optuna.pruners.NopPruner())
    return study, space


def optuna_on_full_budgets(run, sampler):
    study, space = optuna_study(run.pool, sampler)
    while True:
        trial = study.ask(space)
        study.tell(trial, run.evaluate(trial.params, len(run.pool.ladder) - 1))


def optuna_random(run, seed):
    from optuna.samplers import RandomSampler

    optuna_on_full_budgets(run, RandomSampler(seed=seed))


def optuna_tpe(run, seed):
    from optuna.samplers import TPESampler

    optuna_on_full_budgets(run, TPESampler(seed=seed))


def optuna_hyperband(run, seed):
    from optuna.pruners import HyperbandPruner
    from optuna.samplers import TPESampler
    from optuna.trial import TrialState

    top = len(run.pool.ladder) - 1
    # Steps 1, 3, 9, …, so that rounded budgets miss none of the pruner's rungs.
    pruner = HyperbandPruner(min_resource=1, max_resource=ETA**top, reduction_factor=ETA)
    study, space = optuna_study(run.pool, TPESampler(seed=seed), pruner)
    while True:
        trial, paid = study.ask(space), 0.0
        for rung in range(top + 1):
            loss = run.evaluate(trial.params, rung, paid)
            paid = run.pool.ladder[rung]
            trial.report(loss, ETA**rung)
            if math.isinf(loss) or rung < top and trial.should_prune():
                study.tell(trial, state=TrialState.PRUNED)
                break
        else:
            study.tell(trial, loss)


def hpbandster(run, seed):
    import numpy
    from hpbandster.core.dispatcher import Job
    from hpbandster.optimizers import BOHB
    from hpbandster.optimizers.config_generators.bohb import BOHB as Generator

    numpy.random.seed(seed)
    numpy.seterr(all="ignore")
    generator = Generator(configspace(run.pool, seed))
    optimizer = object.__new__(BOHB)  # its constructor would start a Pyro daemon
    optimizer.eta, optimizer.config_generator = ETA, generator
    optimizer.budgets, optimizer.max_SH_iter = numpy.array(run.pool.ladder), len(run.pool.ladder)
    optimizer.logger = logging.getLogger("hpbandster")
    number = 0
    while True:
        bracket = optimizer.get_next_iteration(number, {"result_logger": None})
        number += 1
        while (asked := bracket.get_next_run()) is not None:
            identity, values, budget = asked
            job = Job(identity, config=values, budget=budget)
            loss = run.evaluate(values, run.rung(budget))
            job.timestamps, job.exception = {}, "diverged" if math.isinf(loss) else None
            job.result = None if math.isinf(loss) else {"loss": loss, "info": {}}
            bracket.register_result(job)
            generator.new_result(job)


def dehb(run, seed):
    from dehb import DEHB

    least, largest = run.fidelities()
    with tempfile.TemporaryDirectory() as folder:
        optimizer = DEHB(
            cs=configspace(run.pool, seed), f=lambda *_, **__: None, min_fidelity=least, max_fidelity=largest, eta=ETA,
            n_workers=1, output_path=folder, seed=seed, save_freq="end",
        )  # fmt: skip
        while True:
            job = optimizer.ask()
            loss = run.evaluate(dict(job["config"]), run.rung(job["fidelity"]))
            fitness = 1e9 if math.isinf(loss) else loss
            optimizer.tell(job, {"fitness": fitness, "cost": float(job["fidelity"])})


def smac(run, seed):
    from smac import MultiFidelityFacade, Scenario
    from smac.runhistory.dataclasses import TrialValue

    least, largest = run.fidelities()
    with tempfile.TemporaryDirectory() as folder:
        scenario = Scenario(
            configspace(run.pool, seed), deterministic=True, seed=seed, output_directory=pathlib.Path(folder),
            min_budget=least, max_budget=largest, n_trials=int(run.total * (len(run.pool.ladder) + 0.5)),  # never reached
        )  # fmt: skip
        intensifier = MultiFidelityFacade.get_intensifier(scenario, eta=ETA)
        optimizer = MultiFidelityFacade(
            scenario, lambda config, seed=0, budget=0: 0.0, intensifier=intensifier, logging_level=50, overwrite=True
        )
        worst = 1.0
        while True:
            trial = optimizer.ask()
            loss = run.evaluate(dict(trial.config), run.rung(trial.budget))
            worst = worst if math.isinf(loss) else max(worst, loss)
            value = TrialValue(cost=min(loss, worst), time=float(trial.budget))
            optimizer.tell(trial, value, save=False)


def dyhpo(run, seed):
    import numpy
    from scipy.stats import norm

    numpy.NINF = -numpy.inf  # NumPy 2 has no such name
    from hpo_method import DyHPOAlgorithm

    class Optimizer(DyHPOAlgorithm):
        """Its choice by expected improvement at once, not row by row, which takes seconds."""

        def find_suggested_config(self, means, deviations, budgets):
            best = {budget: self.calculate_fidelity_ymax(int(budget)) for budget in set(budgets)}
            gains = means - numpy.array([best[budget] for budget in budgets])
            z = gains / deviations
            return int((gains * norm.cdf(z) + deviations * norm.pdf(z)).argmax())

    pool = run.pool
    shares = [(i + 1) / DYHPO_STEPS * pool.budgets[-1] for i in range(DYHPO_STEPS)]
    columns = range(len(pool.budgets))
    steps = sorted({min(columns, key=lambda i: abs(pool.budgets[i] - share)) for share in shares})
    finite = pool.losses[numpy.isfinite(pool.losses)]
    best, bad = finite.min(), numpy.quantile(finite, 0.95)
    rows = numpy.arange(len(pool.vectors))
    if len(rows) > DYHPO_ROWS:
        rows = numpy.random.default_rng(seed).choice(rows, DYHPO_ROWS, replace=False)
    scores = 1 - numpy.clip((pool.losses[numpy.ix_(rows, steps)] - best) / (bad - best), 0, 1)
    with tempfile.TemporaryDirectory() as folder:
        optimizer = Optimizer(
            pool.vectors[rows], [False] * len(pool.space), seed=seed, max_benchmark_epochs=len(steps), minimization=False,
            total_budget=math.inf, device="cpu", dataset_name=pool.name, output_path=folder, verbose=False,
        )  # fmt: skip
        while True:
            index, step = map(int, optimizer.suggest())
            paid = pool.budgets[steps[step - 2]] if step > 1 else 0.0
            run.train_row(int(rows[index]), pool.budgets[steps[step - 1]], paid)
            optimizer.observe(index, step, scores[index, :step].tolist())


RIVALS = {f.__name__: f for f in (optuna_random, optuna_tpe, optuna_hyperband, hpbandster, dehb, smac, dyhpo)}


def run_rival(arguments):
    warnings.simplefilter("ignore")
    logging.disable(logging.ERROR)
    out = pathlib.Path(arguments.out)
    out.mkdir(parents=True, exist_ok=True)
    first, last = map(int, arguments.seeds.split(".."))
    pools = [Pool(pathlib.Path(path)) for path in arguments.pool.split(",")]
    for seed, pool in itertools.product(range(first, last), pools):
        run, start = Run(pool, arguments.total), time.process_time()
        try:
            RIVALS[arguments.rival](run, seed)
        except Spent:
            pass
        with open(out / f"{pool.name}__{arguments.rival}__{seed}.csv", "w", newline="") as file:
            csv.writer(file).writerows([HEADER, *run.rows])
        seconds = time.process_time() - start
        regrets = " ".join("-" if r is None else f"{r:.3f}" for r in at_points(run.rows))
        print(f"{pool.name} {arguments.rival} {seed}: {len(run.rows)} evaluations, {seconds:.1f} s, {regrets}", flush=True)


def at_points(rows):
    """The incumbent's regret at each point, None beyond the end: the best loss at the largest budget evaluated so far."""
    found = []
    for point in POINTS:
        seen = [row for row in rows if row[4] <= point * 1.001 + 1e-9 and math.isfinite(row[2])]
        largest = max((row[1] for row in seen), default=0.0)
        at_largest = [row for row in seen if row[1] > largest * 0.999]
        is_reached = rows and rows[-1][4] >= 0.985 * point and at_largest
        found.append(min(at_largest, key=lambda row: row[2])[3] if is_reached else None)
    return found


class Summary:
    """Mean regrets of methods on pools, and what one method's are divided by others'."""

    def __init__(self, folder, method, fewest, in_full):
        self.method, self.fewest, self.regrets, self.num_runs = method, fewest, {}, {}
        runs = {}
        for path in sorted(folder.glob("*__*__*.csv*")):
            pool, found, _ = path.name.split("__")
            with opened(path) as file:
                rows = [[float(row[column]) for column in HEADER] for row in csv.DictReader(file)]
            if in_full:
                largest = max(row[1] for row in rows)
                spent = itertools.accumulate(row[1] / largest for row in rows)
                rows = [[*row[:4], paid, paid] for row, paid in zip(rows, spent)]
            runs.setdefault((pool, found), []).append(at_points(rows))
        for key, found in runs.items():
            columns = [[regret for regret in column if regret is not None] for column in zip(*found)]
            self.regrets[key] = [statistics.mean(column) if column else None for column in columns]
            self.num_runs[key] = len(found)
        self.pools = sorted({pool for pool, _ in runs})
        self.methods = sorted({found for _, found in runs})

    def ratio(self, pool, point, others):
        own = self.regrets[pool, self.method][point]
        known = [self.regrets[pool, other][point] for other in others if (pool, other) in self.regrets]
        known = [regret for regret in known if regret is not None]
        if own is None or not known:
            return None
        ratio = own / min(known) if min(known) > 0 else math.inf if own > 0 else 1.0
        return min(max(ratio, SMALLEST_RATIO), 1 / SMALLEST_RATIO)

    def mean_ratio(self, family, point, others):
        ratios = [self.ratio(pool, point, others) for pool in self.pools if pool.startswith(family)]
        logs = [math.log(ratio) for ratio in ratios if ratio is not None]
        return math.exp(statistics.mean(logs)) if logs else None

    def print(self):
        points, others = range(len(POINTS)), [m for m in self.methods if m != self.method]
        print(table_line("mean regret", [self.method, *others]) + "\n" + "|--" * (2 + len(others)) + "|")
        for pool in self.pools:
            found = [self.regrets.get((pool, m), [None]) for m in (self.method, *others)]
            print(table_line(pool, [numbers(regrets, 3) for regrets in found]))
        runs = [[n for (_, found), n in self.num_runs.items() if found == m] for m in (self.method, *others)]
        print(table_line("runs", [f"{min(found)} to {max(found)}" for found in runs]))
        print()
        print(table_line(f"ratio of {self.method} to", ["the best other", *others]) + "\n" + "|--" * (2 + len(others)) + "|")
        many = [m for m in others if all(n >= self.fewest for (_, found), n in self.num_runs.items() if found == m)]
        columns = [many, *([other] for other in others)]
        for pool in self.pools:
            print(table_line(pool, [numbers([self.ratio(pool, i, c) for i in points], 2) for c in columns]))
        for name, family in (("geometric mean", ""), ("TaskSet", "taskset"), ("LCBench", "lcbench")):
            print(table_line(name, [numbers([self.mean_ratio(family, i, c) for i in points], 2) for c in columns]))


def numbers(values, digits):
    return " / ".join("-" if value is None else f"{value:.{digits}f}" for value in values)


def table_line(name, cells):
    return f"| {name} | " + " | ".join(cells) + " |"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["run", "summary"])
    parser.add_argument("--rival", choices=sorted(RIVALS))
    parser.add_argument("--pool", help="NAME.csv[.gz]; several separated by commas")
    parser.add_argument("--seeds", default="0..10")
    parser.add_argument("--total", type=float, default=64.0, help="what a run may spend, in largest budgets")
    parser.add_argument("--out", required=True, help="the folder of curves")
    parser.add_argument("--method", default="tandem", help="whose regret is divided by the others'")
    parser.add_argument("--fewest", type=int, default=1, help="runs a pool without which a method is not the best other")
    parser.add_argument("--in-full", action="store_true", help="every evaluation is paid in full, whatever the rival")
    arguments = parser.parse_args()
    if arguments.what == "run":
        run_rival(arguments)
    else:
        Summary(pathlib.Path(arguments.out), arguments.method, arguments.fewest, arguments.in_full).print()


if __name__ == "__main__":
    main()
