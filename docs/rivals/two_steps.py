"""Joint search against two searches in steps, with the programs themselves and `scheduler init --fix-from`.

    python3 docs/rivals/two_steps.py --programs target/release --work FOLDER --method tandem,bohb-faithful --seeds 0..20

Objective: `joint-resnet` (data/src/benchmark/joint.rs). Three ways with the same number of Hyperband brackets:
`joint` varies all 17 hyperparameters; `training first` fixes the architecture at the middle of every range, then
searches the architecture with the best training fixed by --fix-from; `architecture first` the other way round. Printed:
regret of the best configuration at the largest budget, which is seen without noise; mean and standard error over the
seeds, and the mean difference to `joint` seed by seed.
"""

import argparse
import json
import math
import pathlib
import shutil
import statistics
import subprocess

ARCHITECTURE = {
    **{f"nr_residual_blocks_{k}": 4 for k in (1, 2, 3)},
    "initial_filters": 16,
    "widen_factor_1": 2.0,
    "widen_factor_2": math.sqrt(2.0),
    "widen_factor_3": math.sqrt(2.0),
    **{f"res_branches_{k}": 3 for k in (1, 2, 3)},
}
TRAINING = {
    "learning_rate": math.sqrt(1e-3),
    "batch_size": 64,
    "weight_decay": 1e-4,
    "momentum": 0.4955,
    "mixup_alpha": 0.5,
    "cutout_length": 10,
    "death_rate": 0.5,
}
OPTIMUM = 0.02


class Ways:
    def __init__(self, arguments, space, method, seed):
        self.programs, self.space, self.method, self.seed = pathlib.Path(arguments.programs), space, method, seed
        self.work, self.trainers = pathlib.Path(arguments.work), arguments.trainers

    def search(self, name, brackets, fix, *more):
        """Runs one search to its end; returns its directory."""
        directory, path = self.work / name, self.work / f"{name}.json"
        base = self.method.removesuffix("-faithful")
        search = {
            "format": "search",
            "version": [1, 1],
            "name": name,
            "space": {"hyperparameters": self.space},
            "objective": {"benchmark": "joint-resnet"},
            "budget": {"unit": "epochs", "min": 1, "max": 27},
            "limit": {"brackets": brackets},
            "method": base,
            "bohb": {"faithful": base != self.method},
            "seed": self.seed,
            "fix": fix,
        }
        path.write_text(json.dumps(search))
        command = [self.programs / "scheduler", "local", path, directory, "--trainers", str(self.trainers), *more]
        subprocess.run(command, check=True, capture_output=True)
        return directory

    def regret(self, directory):
        """Of the smallest loss at the largest budget."""
        results = [json.loads(path.read_text()) for path in (directory / "results").glob("*/*.json")]
        at_top = [r["outcome"]["loss"] for r in results if r["budget"]["amount"] == 27]
        return min(at_top) - OPTIMUM

    def two_steps(self, brackets, default, searched):
        first = self.search("first", brackets // 2, default)
        names = ",".join(searched)
        return self.search("second", brackets - brackets // 2, {}, "--fix-from", first, "--fix", names)

    def run(self, way, brackets):
        shutil.rmtree(self.work, ignore_errors=True)
        self.work.mkdir(parents=True)
        if way == "joint":
            directory = self.search("joint", brackets, {})
        elif way == "training first":
            directory = self.two_steps(brackets, ARCHITECTURE, TRAINING)
        else:
            directory = self.two_steps(brackets, TRAINING, ARCHITECTURE)
        return self.regret(directory)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--programs", default="target/release")
    parser.add_argument("--space", default="data/spaces/joint-resnet.json")
    parser.add_argument("--work", required=True, help="a folder that may be deleted")
    parser.add_argument("--method", default="tandem,bohb-faithful")
    parser.add_argument("--brackets", default="16")
    parser.add_argument("--trainers", type=int, default=1)
    parser.add_argument("--seeds", default="0..20")
    arguments = parser.parse_args()
    space = json.loads(pathlib.Path(arguments.space).read_text())["hyperparameters"]
    first, last = map(int, arguments.seeds.split(".."))
    print(f"{'method':15} {'brackets':>8} {'way':20} {'regret':>18} {'above joint':>18}")
    for method in arguments.method.split(","):
        for brackets in map(int, arguments.brackets.split(",")):
            joint = None
            for way in ("joint", "training first", "architecture first"):
                seeds = range(first, last)
                regrets = [Ways(arguments, space, method, seed).run(way, brackets) for seed in seeds]
                joint = joint or regrets
                differences = [a - b for a, b in zip(regrets, joint)]
                cells = " ".join(f"{mean_and_error(values):>18}" for values in (regrets, differences))
                print(f"{method:15} {brackets:>8} {way:20} {cells}", flush=True)


def mean_and_error(values):
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.4f} ± {error:.4f}"


if __name__ == "__main__":
    main()
