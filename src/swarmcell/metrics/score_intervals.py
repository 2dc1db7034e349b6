"""Closed-form intervals for the ends of the scale, where a bootstrap of perfect results has no width."""

import math

from scipy.optimize import brentq
from scipy.stats import norm


def wilson(share: float, n: float, *, level: float = 0.95) -> tuple[float, float]:
    """Return Wilson's score interval of a proportion.

    Parameters
    ----------
    share
        The proportion, 0 to 1.
    n
        Independent trials (here: donors), > 0.

    References
    ----------
    Wilson 1927, J Am Stat Assoc 22:209.
    """
    z = float(norm.ppf(0.5 + level / 2))
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def newcombe_auroc(auroc: float, n_positive: float, n_negative: float, *, level: float = 0.95) -> tuple[float, float]:
    """Return Newcombe's score interval (method 5) of an area under the ROC curve.

    It keeps a width at an area of 0 or 1, where the bootstrap has none.

    Parameters
    ----------
    auroc
        The area, 0 to 1.
    n_positive, n_negative
        Independent units (here: donors) per class, both > 0.

    References
    ----------
    Newcombe 2006, Statistics in Medicine 25:559, method 5.
    """
    z = float(norm.ppf(0.5 + level / 2))
    star = (n_positive + n_negative) / 2 - 1

    def excess(theta: float) -> float:
        spread = 1 + star * (1 - theta) / (2 - theta) + star * theta / (1 + theta)
        variance = max(0.0, theta * (1 - theta) * spread / (n_positive * n_negative))
        return abs(auroc - theta) - z * math.sqrt(variance)

    tiny = 1e-9
    low = 0.0 if auroc <= tiny else float(brentq(excess, tiny, auroc - tiny)) if excess(tiny) > 0 else 0.0
    high = 1.0 if auroc >= 1 - tiny else float(brentq(excess, auroc + tiny, 1 - tiny)) if excess(1 - tiny) > 0 else 1.0
    return low, high
