#!/usr/bin/env python3
"""What Opacus and dp-accounting say of a grid of mechanisms, for tests/golden.rs.

usage: references.py FILE   (committed as data/golden/privacy.json)

RDP is that of Opacus with its own orders, and that of dp-accounting with whole orders: for others, dp-accounting 0.6 adds the
absolute values of an alternating series, which is an upper bound only. PLD is that of dp-accounting with connect-the-dots and an
interval of 1e-4. Needs: opacus, dp-accounting.
"""
import json, sys
from importlib.metadata import version

import dp_accounting
from dp_accounting import pld, rdp
from opacus.accountants import RDPAccountant

ORDERS = [1 + x / 10.0 for x in range(1, 100)] + list(range(12, 64))
GRID = [(q, sigma, steps) for q in (0.001, 0.01, 0.1, 0.5, 1.0) for sigma in (0.6, 1.0, 2.0, 8.0) for steps in (1, 30, 1000, 20000)]
DELTAS = (1e-5, 1e-7)


def event(q, sigma, steps):
    gaussian = dp_accounting.GaussianDpEvent(sigma)
    one = gaussian if q == 1.0 else dp_accounting.PoissonSampledDpEvent(q, gaussian)
    return dp_accounting.SelfComposedDpEvent(one, steps)


cases = []
for q, sigma, steps in GRID:
    opacus = RDPAccountant()
    opacus.history = [(sigma, q, steps)]
    google = rdp.RdpAccountant(list(range(2, 64)))
    google.compose(event(q, sigma, steps))
    # Beyond this, the distribution has too many points for both.
    wide = steps * min(q, 1.0) / sigma ** 2 > 2000
    tight = None if wide else pld.PLDAccountant(value_discretization_interval=1e-4)
    if tight is not None:
        tight.compose(event(q, sigma, steps))
    for delta in DELTAS:
        cases.append({
            "sampling_rate": q, "noise_multiplier": sigma, "steps": steps, "delta": delta,
            "opacus_rdp": opacus.get_epsilon(delta, alphas=ORDERS), "google_rdp": google.get_epsilon(delta),
            "google_pld": None if tight is None else tight.get_epsilon(delta)})
        print(cases[-1], file=sys.stderr)
out = {"versions": {name: version(name) for name in ("opacus", "dp-accounting")}, "cases": cases}
json.dump(out, open(sys.argv[1], "w"), indent=0)
