"""Hypervolume of two objectives over evaluations: Tandem's methods beside Optuna's NSGA-II and TPE, on two joint functions.

    objectives.py TANDEM_BIN OUT.json [--seeds 10] [--evaluations 60] [--only optuna|tandem]

TANDEM_BIN: the folder of `scheduler`, `sampler`, `trainer`. Each run has one worker and evaluates on the largest budget only, so that
all have the same: no rival here uses smaller budgets. Both functions are of architecture and training together; what is minimised
are the loss and the number of parameters. The hypervolume is of (loss, log10 of parameters), each scaled so that what an exhaustive
search over 50,000 even draws finds is 1.
"""

import argparse
import json
import math
import os
import random
import subprocess
import sys
import tempfile

SPACE = [
    ("blocks", "int", 1, 16, False),
    ("width", "float", 0.25, 8, True),
    ("branches", "int", 1, 4, False),
    ("learning_rate", "float", 1e-4, 1, True),
    ("weight_decay", "float", 1e-6, 1e-2, True),
    ("batch_size", "int", 16, 256, True),
]


def parameters(c):
    """Three groups of residual blocks of 3x3 convolutions, 16, 32 and 64 channels wide before widening."""
    count = 0
    before = 16
    for base in (16, 32, 64):
        channels = max(1, round(base * c["width"]))
        count += c["branches"] * 9 * channels * (before + (2 * c["blocks"] - 1) * channels)
        before = channels
    return count + 10 * before


def smooth(c):
    """Large networks are better, with less and less use; each size has a learning rate of its own that is the best."""
    size = math.log10(parameters(c))
    best_rate = -0.5 - 0.25 * (size - 3) + 0.3 * math.log10(c["batch_size"] / 64)
    off = math.log10(c["learning_rate"]) - best_rate
    decay = math.log10(c["weight_decay"]) + 3.5
    return 0.04 + 0.5 * math.exp(-0.55 * (size - 2.5)) + 0.06 * off**2 + 0.01 * decay**2


def rugged(c):
    """As above, but deep networks do not train without a small learning rate, and branches overfit without weight decay."""
    loss = smooth(c)
    depth = 6 * c["blocks"] * math.sqrt(c["learning_rate"])
    loss += 0.3 / (1 + math.exp(-(depth - 12)))
    loss += 0.03 * (c["branches"] - 1) * max(0.0, -3 - math.log10(c["weight_decay"])) / 3
    return loss + 0.01 * math.sin(7 * math.log10(c["weight_decay"])) * math.cos(3 * c["width"])


FUNCTIONS = {"smooth": smooth, "rugged": rugged}


def evaluate(function, c):
    return FUNCTIONS[function](c), float(parameters(c))


def draw(rng):
    c = {}
    for name, kind, low, high, log in SPACE:
        x = math.exp(rng.uniform(math.log(low), math.log(high))) if log else rng.uniform(low, high)
        c[name] = min(high, max(low, round(x))) if kind == "int" else x
    return c


def volume(points, reference):
    """Of two objectives, by stairs."""
    total, height = 0.0, reference[1]
    for x, y in sorted(points):
        if x < reference[0] and y < height:
            total += (reference[0] - x) * (height - y)
            height = y
    return total


def scaled(points, ends):
    (low_x, high_x), (low_y, high_y) = ends
    return [((x - low_x) / (high_x - low_x), (math.log10(y) - low_y) / (high_y - low_y)) for x, y in points]


def ends_of(function):
    rng = random.Random(0)
    points = [evaluate(function, draw(rng)) for _ in range(50_000)]
    losses = sorted(x for x, _ in points)
    sizes = [math.log10(y) for _, y in points]
    # The upper end is the loss that nine in ten do better than.
    ends = ((losses[0], losses[len(losses) * 9 // 10]), (min(sizes), max(sizes)))
    return ends, volume(scaled(points, ends), (1, 1))


def optuna_run(function, sampler, seed, number):
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    samplers = {"nsga2": optuna.samplers.NSGAIISampler, "tpe": optuna.samplers.TPESampler, "random": optuna.samplers.RandomSampler}
    study = optuna.create_study(directions=["minimize", "minimize"], sampler=samplers[sampler](seed=seed))
    points = []

    def objective(trial):
        c = {}
        for name, kind, low, high, log in SPACE:
            suggest = trial.suggest_int if kind == "int" else trial.suggest_float
            c[name] = suggest(name, low, high, log=log)
        points.append(evaluate(function, c))
        return points[-1]

    study.optimize(objective, n_trials=number)
    return points


def tandem_run(bin_folder, function, method, seed, number):
    with tempfile.TemporaryDirectory() as folder:
        names = {"int": "integer", "float": "float"}
        space = [
            {"name": name, "type": names[kind], "lower": low, "upper": high, "log": log} for name, kind, low, high, log in SPACE
        ]
        search = {
            "name": "two objectives", "space": {"hyperparameters": space},
            "objective": {"command": [sys.executable, os.path.abspath(__file__), "--job", function], "keep_alive": True},
            "objectives": ["loss", "parameters"],
            "budget": {"unit": "epochs", "min": 1, "max": 1}, "limit": {"configurations": number},
            "scheduling": "asynchronous", "method": method, "seed": seed,
        }
        file, directory = os.path.join(folder, "search.json"), os.path.join(folder, "directory")
        with open(file, "w") as out:
            json.dump(search, out)
        command = [os.path.join(bin_folder, "scheduler"), "local", file, directory, "--trainers", "1"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        points = {}
        root = os.path.join(directory, "results", "000")
        for name in os.listdir(root):
            with open(os.path.join(root, name)) as result:
                record = json.load(result)
            points[name] = (record["outcome"]["loss"], record["measures"]["parameters"])
        return [points[name] for name in sorted(points)]


def serve(function):
    """Kept alive: one job after the other."""
    for line in sys.stdin:
        with open(line.strip()) as file:
            job = json.load(file)
        loss, count = evaluate(function, job["configuration"])
        with open(job["result"], "w") as file:
            json.dump({"loss": loss, "measures": {"parameters": count}}, file)
        print(line.strip(), flush=True)


def main():
    if sys.argv[1] == "--job":
        return serve(sys.argv[2])
    parser = argparse.ArgumentParser()
    parser.add_argument("bin")
    parser.add_argument("out")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--evaluations", type=int, default=60)
    parser.add_argument("--only", choices=["optuna", "tandem"])
    args = parser.parse_args()
    found = {}
    for function in FUNCTIONS:
        ends, all_of_it = ends_of(function)
        for seed in range(args.seeds):
            runs = {}
            for sampler in ("random", "nsga2", "tpe") if args.only != "tandem" else ():
                runs[f"optuna {sampler}"] = optuna_run(function, sampler, seed, args.evaluations)
            for method in ("tandem", "bohb", "evolution") if args.only != "optuna" else ():
                runs[f"tandem {method}"] = tandem_run(args.bin, function, method, seed, args.evaluations)
            for name, points in runs.items():
                at = {n: volume(scaled(points[:n], ends), (1, 1)) / all_of_it for n in (20, 40, args.evaluations)}
                found.setdefault(function, {}).setdefault(name, []).append(at)
            with open(args.out, "w") as file:
                json.dump(found, file)
        for name, rows in found[function].items():
            line = f"{function:8} {name:18}"
            for n in rows[0]:
                values = [row[n] for row in rows]
                mean = sum(values) / len(values)
                error = math.sqrt(sum((v - mean) ** 2 for v in values) / max(1, len(values) - 1) / len(values))
                line += f"  {n}: {mean:.3f} ({error:.3f})"
            print(line, flush=True)


main()
