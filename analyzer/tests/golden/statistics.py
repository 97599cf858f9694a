"""Makes statistics.json: rank correlations by scipy, for analyzer's own to be compared with.

    python3 -m venv /tmp/scipy && /tmp/scipy/bin/pip install scipy==1.17.1 numpy==2.4.6
    /tmp/scipy/bin/python analyzer/tests/golden/statistics.py > analyzer/tests/golden/statistics.json

Up to 9 pairs, p is counted over all orders with itertools (scipy approximates it); beyond, scipy's own p is taken.
"""

import itertools
import json
import math

import numpy as np
import scipy
from scipy import stats


def counted_p(x, y, statistic):
    given = abs(statistic(x, y)) - 1e-9
    values = [abs(statistic(x, np.array(order))) >= given for order in itertools.permutations(y)]
    return sum(values) / math.factorial(len(y))


def excess(x, y):
    return sum(np.sign(x[i] - x[j]) * np.sign(y[i] - y[j]) for i in range(len(x)) for j in range(i))


def case(name, x, y):
    x, y = np.asarray(x, float), np.asarray(y, float)
    n = len(x)
    rho, rho_p = stats.spearmanr(x, y)
    tau, tau_p = stats.kendalltau(x, y)
    ranks_x, ranks_y = stats.rankdata(x), stats.rankdata(y)
    rho_method, tau_method = "t", "normal"
    has_ties = len(set(x)) < n or len(set(y)) < n
    if n <= 9:
        rho_p = counted_p(ranks_x - ranks_x.mean(), ranks_y, lambda a, b: a @ b)
        rho_method = "exact"
    if has_ties and n <= 9:
        tau_p, tau_method = counted_p(x, y, excess), "exact"
    elif not has_ties and n <= 33:
        tau_method = "exact"
    bootstrap = stats.bootstrap(
        (x, y), lambda a, b: stats.spearmanr(a, b)[0], paired=True, vectorized=False,
        method="percentile", n_resamples=20_000, rng=np.random.default_rng(1),
    ) if n >= 12 else None
    interval = [float(v) for v in bootstrap.confidence_interval] if bootstrap else None
    if interval and any(map(math.isnan, interval)):  # scipy gives up if one resample has a constant side
        interval = None
    return {
        "name": name, "x": x.tolist(), "y": y.tolist(), "rho": float(rho), "rho_p": float(rho_p),
        "rho_p_method": rho_method, "tau": float(tau), "tau_p": float(tau_p), "tau_p_method": tau_method,
        "interval": interval,
    }


def main():
    rng = np.random.default_rng(0)
    cases = []
    for n, decimals in [(3, 9), (4, 9), (5, 0), (7, 0), (7, 9), (9, 9), (10, 9), (12, 0), (33, 9), (34, 9), (50, 0),
                        (129, 9), (129, 0), (400, 1)]:
        x = rng.normal(size=n)
        y = 0.6 * x + 0.8 * rng.normal(size=n)
        cases.append(case(f"n {n}, rounded to {decimals}", x.round(decimals), y.round(decimals)))
    x = np.arange(12.0)
    cases.append(case("perfect", x, x * x))
    cases.append(case("reversed but for one pair", x, np.r_[-x[:10], -11, -10]))
    x = rng.normal(size=60)
    cases.append(case("unrelated", x, rng.normal(size=60)))
    quantiles = [{"p": p, "freedom": f, "t": float(stats.t.isf(p / 2, f))} for p in (0.05, 0.01, 1e-6)
                 for f in (1, 2, 9, 300)]
    print(json.dumps({"scipy": scipy.__version__, "numpy": np.__version__, "cases": cases, "student": quantiles}))


main()
