"""Jobs a second beside Optuna's journal file and NePS, in turns, on the same objective and number of workers.

    python3 docs/rivals/throughput.py --tandem target/release --optuna PYTHON --neps PYTHON \
        [--workers 2] [--sizes 100,1000,5000] [--limit 300] [--folder DIR]

PYTHON is the interpreter of an environment with `optuna` or `neural-pipeline-search`. The objective is counting ones with
8 categories and 8 numbers, which takes no time. The rivals draw at random, the cheapest they can do, and Optuna also with
its own default, TPE; Tandem is measured with `random` and with `bohb`. Prints CSV: tool, jobs asked for, jobs done within the limit (seconds), jobs
a second from the first to the last of them, the same over the last tenth, milliseconds of processor time a job,
start-up of all processes included, and how many of the workers failed (the others go on, and the folder
with their log is kept).
"""

import argparse
import datetime
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time

CATEGORIES, NUMBERS, BUDGET = 8, 8, 9


def counting_ones(values):
    """The loss: of each number, BUDGET draws that are 1 with its value as probability are averaged."""
    ones = sum(int(values[f"cat_{i}"]) for i in range(CATEGORIES))
    for i in range(NUMBERS):
        ones += sum(random.random() < values[f"cont_{i}"] for _ in range(BUDGET)) / BUDGET
    return -float(ones)


def work_for_optuna(folder, number, size, tick, sampler):
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(
        study_name="search",
        storage=JournalStorage(JournalFileBackend(os.path.join(folder, "journal.log"))),
        sampler=getattr(optuna.samplers, sampler)(),
        load_if_exists=True,
    )

    def objective(trial):
        values = {f"cat_{i}": trial.suggest_categorical(f"cat_{i}", [0, 1]) for i in range(CATEGORIES)}
        values |= {f"cont_{i}": trial.suggest_float(f"cont_{i}", 0, 1) for i in range(NUMBERS)}
        return counting_ones(values)

    def after(study, trial):
        tick()
        if trial.number >= size - 1:
            study.stop()

    study.optimize(objective, n_trials=size, callbacks=[after])


def work_for_neps(folder, number, size, tick):
    import logging

    import neps
    import torch

    torch.set_num_threads(1)
    logging.disable(logging.ERROR)
    root = os.path.join(folder, "neps")
    fields = {f"cat_{i}": neps.Categorical((0, 1)) for i in range(CATEGORIES)}
    fields |= {f"cont_{i}": neps.Float(0.0, 1.0) for i in range(NUMBERS)}
    space = type("Space", (neps.PipelineSpace,), fields)()
    if number > 0:
        # A second process that gives the same space may be refused (the first one's is on disk), and one that comes
        # while the first one writes its state fails.
        first = os.path.join(folder, "ends-0")
        while not os.path.exists(first) or os.path.getsize(first) == 0:
            time.sleep(0.05)
        time.sleep(0.5)
        space = None

    def evaluate(**values):
        loss = counting_ones(values)
        tick()
        return loss

    neps.run(
        evaluate,
        space,
        root_directory=root,
        total_evaluations_to_spend=size,
        optimizer="random_search",
    )


def worker(tool, folder, number, size):
    with open(os.path.join(folder, f"ends-{number}"), "a", buffering=1) as ends:
        tick = lambda: ends.write(f"{time.time():.6f}\n")
        if tool == "neps":
            work_for_neps(folder, number, size, tick)
        else:
            work_for_optuna(folder, number, size, tick, {"optuna": "RandomSampler", "optuna tpe": "TPESampler"}[tool])


def start_rival(tool, python, folder, workers, size):
    log = open(os.path.join(folder, "log"), "a")
    environment = dict(os.environ, OMP_NUM_THREADS="1", PYTHONWARNINGS="ignore")
    return [
        subprocess.Popen(
            [python, os.path.abspath(__file__), "--worker", tool, folder, str(number), str(size)],
            stdout=log,
            stderr=log,
            env=environment,
        )
        for number in range(workers)
    ]


def start_tandem(method, programs, folder, workers, size):
    hyperparameters = [
        {"name": f"cat_{i}", "type": "categorical", "choices": [0, 1]} for i in range(CATEGORIES)
    ] + [{"name": f"cont_{i}", "type": "float", "lower": 0, "upper": 1} for i in range(NUMBERS)]
    search = {
        "format": "search",
        "version": [1, 0],
        "name": "throughput",
        "space": {"hyperparameters": hyperparameters},
        "objective": {"benchmark": "counting-ones"},
        "budget": {"unit": "steps", "min": BUDGET, "max": BUDGET},
        "scheduling": "asynchronous",
        "limit": {"configurations": size},
        "method": method,
    }
    with open(os.path.join(folder, "search.json"), "w") as file:
        json.dump(search, file)
    directory = os.path.join(folder, "directory")
    log = open(os.path.join(folder, "log"), "a")
    program = lambda name: os.path.join(programs, name)
    init = [program("scheduler"), "init", os.path.join(folder, "search.json"), directory]
    subprocess.run(init, check=True, stdout=log, stderr=log)
    names = ["scheduler", "sampler"] + ["trainer"] * workers
    return [subprocess.Popen([program(n), "run", directory], stdout=log, stderr=log) for n in names]


def ends(folder):
    """When each job ended, ascending, in seconds since 1970."""
    times = []
    for name in os.listdir(folder):
        if name.startswith("ends-"):
            with open(os.path.join(folder, name)) as file:
                times += [float(line) for line in file if line.endswith("\n")]
    results = os.path.join(folder, "directory", "results")
    for parent, _, names in os.walk(results):
        for name in names:
            if not name.startswith("."):
                with open(os.path.join(parent, name)) as file:
                    stamp = json.load(file)["finished_at"]
                times.append(datetime.datetime.fromisoformat(stamp).timestamp())
    return sorted(times)


def run(tool, start, size, limit, parent):
    folder = tempfile.mkdtemp(prefix="throughput-", dir=parent)
    children = start(folder)
    deadline = time.time() + limit
    left, cpu_s, failed = {child.pid for child in children}, 0.0, 0
    while left:
        for pid in list(left):
            done, status, usage = os.wait4(pid, os.WNOHANG)
            if done:
                failed += status not in (0, 9)
                left.remove(pid)
                cpu_s += usage.ru_utime + usage.ru_stime
        if time.time() > deadline:
            for pid in left:
                os.kill(pid, 9)
        time.sleep(0.02)
    times = ends(folder)
    tenth = max(len(times) // 10, 2)
    rate = lambda times: (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 else float("nan")
    row = [tool, size, len(times), f"{rate(times):.2f}", f"{rate(times[-tenth:]):.2f}"]
    row += [f"{1000 * cpu_s / max(len(times), 1):.2f}", failed]
    print(",".join(map(str, row)), flush=True)
    return folder if failed == 0 else None


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tandem", help="folder of the programs")
    parser.add_argument("--optuna", help="Python with optuna")
    parser.add_argument("--neps", help="Python with neural-pipeline-search")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--sizes", default="100,1000,5000")
    parser.add_argument("--limit", type=float, default=300)
    parser.add_argument("--folder", help="where the searches are written; the temporary folder if not given")
    arguments = parser.parse_args()
    workers = arguments.workers
    print(f"# {workers} workers, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {datetime.date.today()}")
    print("tool,asked,done,jobs_per_s,jobs_per_s_last_tenth,cpu_ms_per_job,failed")
    # Nothing is removed in between: for half a minute ext4 searches new files' places among those of removed ones.
    folders = []
    for size in map(int, arguments.sizes.split(",")):
        tools = []
        if arguments.tandem:
            for method in ["random", "bohb"]:
                start = lambda f, m=method: start_tandem(m, arguments.tandem, f, workers, size)
                tools.append((f"tandem {method}", start))
        for tool, python in [("optuna", arguments.optuna), ("optuna tpe", arguments.optuna), ("neps", arguments.neps)]:
            if python:
                start = lambda f, t=tool, p=python: start_rival(t, p, f, workers, size)
                tools.append((tool, start))
        folders += [run(tool, start, size, arguments.limit, arguments.folder) for tool, start in tools]
    for folder in filter(None, folders):
        shutil.rmtree(folder)
    print(f"# load at the end {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        worker(sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
    else:
        main()
