"""Writes kde.json: densities of statsmodels' KDEMultivariate, for tests/golden.rs.

    python3 -m venv venv && venv/bin/pip install statsmodels==0.15.0 && venv/bin/python kde.py

Two continuous and one integer dimension (embedded in [0, 1]), one categorical one with three levels and one ordinal
one with four. Both sets contain every level of the categorical one: statsmodels counts its levels from the data.
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


def rows(rng, n, centre):
    return np.column_stack([
        np.clip(rng.normal(centre, 0.15, n), 0, 1),
        rng.random(n),
        integer(rng.integers(1, 6, n), 1, 5),
        np.r_[[0, 1, 2], rng.integers(0, 3, n - 3)],
        rng.integers(0, 4, n),
    ])


def density(data):
    kde = KDEMultivariate(data=data, var_type=VAR_TYPE, bw="normal_reference")
    reference = kde.bw.tolist()
    kde.bw = np.clip(kde.bw, MIN_BANDWIDTH, LARGEST)
    return kde, reference


def main():
    rng = np.random.default_rng(20261124)
    cases = []
    for num_good, num_bad in [(6, 6), (7, 30), (40, 200)]:
        good, bad = rows(rng, num_good, 0.3), rows(rng, num_bad, 0.6)
        good_kde, good_reference = density(good)
        bad_kde, bad_reference = density(bad)
        points = rows(rng, 64, 0.4)
        good_pdf = [float(good_kde.pdf(p)) for p in points]
        bad_pdf = [float(bad_kde.pdf(p)) for p in points]
        ratio = np.log(good_pdf) - np.log(bad_pdf)
        cases.append({
            "good": good.tolist(), "bad": bad.tolist(), "points": points.tolist(),
            "good_normal_reference": good_reference, "bad_normal_reference": bad_reference,
            "good_bandwidths": good_kde.bw.tolist(), "bad_bandwidths": bad_kde.bw.tolist(),
            "good_pdf": good_pdf, "bad_pdf": bad_pdf,
            "log_acquisition": ratio.tolist(), "best": int(np.argmax(ratio)),
        })
    out = {"statsmodels": statsmodels.__version__, "levels": [0, 0, 0, 3, 4], "cases": cases}
    pathlib.Path(__file__).with_name("kde.json").write_text(json.dumps(out) + "\n")


main()
