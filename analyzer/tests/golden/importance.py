"""Makes importance.json: functional ANOVA by Optuna (scikit-learn's forest), for analyzer's own to be compared with.

    python3 -m venv /tmp/optuna && /tmp/optuna/bin/pip install optuna==5.0.0 scikit-learn==1.9.1 numpy==2.4.6
    /tmp/optuna/bin/python analyzer/tests/golden/importance.py > analyzer/tests/golden/importance.json
"""

import json

import numpy as np
import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution

NAMES = ["a", "b", "c", "kind"]
DISTRIBUTIONS = {
    "a": FloatDistribution(0, 1), "b": FloatDistribution(0, 1), "c": FloatDistribution(0, 1),
    "kind": CategoricalDistribution([0, 1, 2]),
}


def main():
    rng = np.random.default_rng(3)
    points, losses = [], []
    study = optuna.create_study()
    for _ in range(500):
        a, b, c = rng.random(3).round(6).tolist()
        kind = int(rng.integers(3))
        loss = float(2 * a + 3 * (b - 0.4) ** 2 + [0.0, 0.5, 1.5][kind] + a * c + 0.05 * rng.normal())
        points.append([a, b, c, kind])
        losses.append(loss)
        study.add_trial(optuna.trial.create_trial(
            params=dict(zip(NAMES, points[-1])), distributions=DISTRIBUTIONS, value=loss))
    evaluator = optuna.importance.FanovaImportanceEvaluator(n_trees=64, seed=0)
    shares = optuna.importance.get_param_importances(study, evaluator=evaluator, normalize=True)
    print(json.dumps({"optuna": optuna.__version__, "points": points, "losses": losses,
                      "shares": [shares[name] for name in NAMES]}))


main()
