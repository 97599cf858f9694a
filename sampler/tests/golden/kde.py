"""Writes kde.json: BOHB's densities and acquisition values by statsmodels' KDEMultivariate, for tests/golden.rs.

    python3 -m venv venv && venv/bin/pip install statsmodels==0.15.0 && venv/bin/python kde.py

Two continuous and one integer dimension (embedded in [0, 1]), one categorical one with three levels and one ordinal
one with four. Both sets contain every level of the categorical one: statsmodels counts its levels from the data.
The split into good and bad is HpBandSter's (optimizers/config_generators/bohb.py), with its default settings.
"""

import json
import pathlib

import numpy as np
import statsmodels
from statsmodels.nonparametric.kernel_density import KDEMultivariate

VAR_TYPE = "cccuo"
MIN_BANDWIDTH = 1e-3
# The largest bandwidth that Tandem gives a dimension with c levels: (c - 1)/c.
LARGEST = [np.inf, np.inf, np.inf, 2 / 3, 3 / 4]
FACTOR = 3.0


def integer(value, lower, upper):
    """ConfigSpace's embedding of an integer."""
    return (value - (lower - 0.49999)) / (upper - lower + 2 * 0.49999)


def rows(rng, n):
    return np.column_stack([
        rng.random(n),
        rng.random(n),
        integer(rng.integers(1, 6, n), 1, 5),
        rng.integers(0, 3, n),
        rng.integers(0, 4, n),
    ])


def split(data, losses):
    least = data.shape[1] + 1
    num_good = max(least, (15 * len(data)) // 100)
    num_bad = max(least, (85 * len(data)) // 100)
    order = np.argsort(losses)
    return data[order[:num_good]], data[order[num_good:num_good + num_bad]]


def density(data):
    kde = KDEMultivariate(data=data, var_type=VAR_TYPE, bw="normal_reference")
    reference = kde.bw.tolist()
    kde.bw = np.clip(kde.bw, MIN_BANDWIDTH, LARGEST)
    return kde, reference


def main():
    rng = np.random.default_rng(20261124)
    cases = []
    for num_results in [14, 100, 230]:
        results = rows(rng, num_results)
        losses = np.abs(results[:, 0] - 0.3) + 0.3 * rng.random(num_results)
        good, bad = split(results, losses)
        assert all(len(np.unique(data[:, 3])) == 3 for data in (good, bad))
        good_kde, good_reference = density(good)
        bad_kde, bad_reference = density(bad)
        points = rows(rng, 64)
        good_pdf = [float(good_kde.pdf(p)) for p in points]
        bad_pdf = [float(bad_kde.pdf(p)) for p in points]
        ratio = np.log(good_pdf) - np.log(bad_pdf)
        cases.append({
            "results": results.tolist(), "losses": losses.tolist(),
            "good": good.tolist(), "bad": bad.tolist(), "points": points.tolist(),
            "good_normal_reference": good_reference, "bad_normal_reference": bad_reference,
            "good_bandwidths": good_kde.bw.tolist(), "bad_bandwidths": bad_kde.bw.tolist(),
            "good_pdf": good_pdf, "bad_pdf": bad_pdf,
            "log_acquisition": ratio.tolist(), "best": int(np.argmax(ratio)),
        })
    out = {"statsmodels": statsmodels.__version__, "levels": [0, 0, 0, 3, 4], "cases": cases}
    pathlib.Path(__file__).with_name("kde.json").write_text(json.dumps(out) + "\n")


main()
