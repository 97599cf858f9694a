"""Time for one proposal: `sampler latency`, HpBandSter and Optuna, in turns, on the same space and numbers of results.

    analyzer export configspace data/spaces/joint-resnet.json --out joint-resnet.configspace.json
    python3 docs/rivals/latency.py --space data/spaces/joint-resnet.json --configspace joint-resnet.configspace.json \\
        --sampler target/release/sampler --hpbandster HPB/bin/python --optuna OPT/bin/python

HPB and OPT are virtual environments with hpbandster 0.7.4 (and ConfigSpace 0.7) and optuna; without one of them that
rival is left out. All tools get what `sampler latency` makes: draws from the prior on four budgets, 27, 9, 3 and 1 of 40
on each, with the sum of (x - 0.4)^2 over the unit cube as loss. Timed is, with so many results known, one more result
being told and one configuration asked for: processor time of the process, one thread. HpBandSter's proposals all come
from its model (random_fraction 0), as those of `sampler latency` do.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

# Share of results on each budget, of 40; as in `sampler latency`.
LIMITS = (27, 36, 39)
BUDGETS = (1.0, 3.0, 9.0, 27.0)


def budget(number):
    return BUDGETS[sum(number % 40 >= limit for limit in LIMITS)]


def hpbandster(path, num_results, repeats, seconds):
    import logging

    import numpy
    from ConfigSpace.read_and_write import json as reader
    from hpbandster.core.dispatcher import Job
    from hpbandster.optimizers.config_generators.bohb import BOHB

    logging.disable(logging.CRITICAL)
    numpy.seterr(all="ignore")
    numpy.random.seed(1)
    with open(path) as file:
        space = reader.read(file.read())
    space.seed(7)
    generator = BOHB(space, random_fraction=0.0)

    def job(number):
        configuration = space.sample_configuration()
        loss = float(((configuration.get_array() - 0.4) ** 2).sum())
        job = Job((0, 0, number), config=configuration.get_dictionary(), budget=budget(number))
        job.result = {"loss": loss, "info": {}}
        job.timestamps, job.exception = {}, None
        return job

    for number in range(num_results - 1):
        generator.new_result(job(number), update_model=False)
    # Told with the others, so that every budget's model is there.
    for rung in range(40):
        generator.new_result(job(num_results + rung))
    times = []
    until = time.monotonic() + seconds
    for number in range(num_results + 40, num_results + 40 + repeats):
        next_job = job(number)
        start = time.process_time()
        generator.new_result(next_job)
        generator.get_config(BUDGETS[0])
        times.append(time.process_time() - start)
        if time.monotonic() > until:
            break
    return times


def optuna(path, num_results, repeats, seconds):
    import math
    import random

    import optuna
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with open(path) as file:
        raw = json.load(file)["hyperparameters"]
    kinds = {"uniform_float": FloatDistribution, "uniform_int": IntDistribution}
    space = {}
    for one in raw:
        if one["type"] in kinds:
            space[one["name"]] = kinds[one["type"]](one["lower"], one["upper"], log=one["log"])
        elif one["type"] == "categorical":
            space[one["name"]] = CategoricalDistribution(one["choices"])
    rng = random.Random(7)

    def draw(distribution):
        if isinstance(distribution, CategoricalDistribution):
            return rng.choice(distribution.choices), 0.0
        low, high = distribution.low, distribution.high
        x = rng.random()
        if distribution.log:
            value = math.exp(math.log(low) + x * math.log(high / low))
        else:
            value = low + x * (high - low)
        if isinstance(distribution, IntDistribution):
            value = round(value)
        return min(max(value, low), high), (x - 0.4) ** 2

    def trial():
        drawn = {name: draw(distribution) for name, distribution in space.items()}
        return optuna.trial.create_trial(
            params={name: value for name, (value, _) in drawn.items()},
            distributions=space,
            value=sum(loss for _, loss in drawn.values()),
        )

    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=1, multivariate=True))
    study.add_trials([trial() for _ in range(num_results)])
    times = []
    until = time.monotonic() + seconds
    for _ in range(repeats):
        next_trial = trial()
        start = time.process_time()
        study.add_trial(next_trial)
        study.ask(space)
        times.append(time.process_time() - start)
        if time.monotonic() > until:
            break
    return times


def run_rival(python, tool, arguments, num_results):
    """Median seconds of one worker, or None where it did not get there in time."""
    command = [python, __file__, "--worker", tool, "--configspace", arguments.configspace]
    command += ["--results", str(num_results), "--repeats", str(arguments.repeats)]
    one_thread = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
    try:
        output = subprocess.run(
            command, env=os.environ | one_thread, capture_output=True, text=True, timeout=arguments.timeout_s
        )
    except subprocess.TimeoutExpired:
        return None
    if output.returncode != 0:
        sys.exit(f"{tool}: {output.stderr[-2000:]}")
    return statistics.median(json.loads(output.stdout.splitlines()[-1]))


def run_sampler(arguments, method, num_results):
    command = [arguments.sampler, "latency", "--space", arguments.space, "--method", method]
    command += ["--results", str(num_results), "--repeats", "101"]
    output = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(output.stdout.splitlines()[1].split()[2]) / 1e3


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--space")
    parser.add_argument("--configspace", required=True)
    parser.add_argument("--sampler")
    parser.add_argument("--hpbandster", help="the Python that has hpbandster")
    parser.add_argument("--optuna", help="the Python that has optuna")
    parser.add_argument("--results", default="100,1000,10000,100000")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--timeout-s", type=float, default=200.0)
    parser.add_argument("--worker", choices=["hpbandster", "optuna"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        worker = {"hpbandster": hpbandster, "optuna": optuna}[arguments.worker]
        times = worker(arguments.configspace, int(arguments.results), arguments.repeats, 60.0)
        print(json.dumps(times))
        return
    tools = {
        "tandem": lambda n: run_sampler(arguments, "tandem", n),
        "bohb": lambda n: run_sampler(arguments, "bohb", n),
    }
    if arguments.hpbandster:
        tools["hpbandster"] = lambda n: run_rival(arguments.hpbandster, "hpbandster", arguments, n)
    if arguments.optuna:
        tools["optuna"] = lambda n: run_rival(arguments.optuna, "optuna", arguments, n)
    print(f"{'results':>9} " + " ".join(f"{tool + ' ms':>14}" for tool in tools))
    for text in arguments.results.split(","):
        times = {tool: [] for tool in tools}
        for _ in range(arguments.rounds):
            for tool, run in tools.items():
                # What did not get there once is not tried again.
                if None not in times[tool]:
                    times[tool].append(run(int(text)))
        cells = [
            f"{'-':>14}" if None in found else f"{1e3 * statistics.median(found):>14.3f}"
            for found in times.values()
        ]
        print(f"{text:>9} " + " ".join(cells), flush=True)


if __name__ == "__main__":
    main()
