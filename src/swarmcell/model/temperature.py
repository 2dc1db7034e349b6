"""Calibration of probabilities by sums on a grid: sites add up losses, and the smallest sum names the grid's point.

Rules: `probabilities = softmax(outputs / temperature + shift)`; the shift (two classes only) moves the operating point,
so that calling the likelier condition is right at the balance that the classes were weighted for. A prior of Gaussian
width keeps a few samples from moving either far. The choice is made of integers, equal everywhere.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from swarmcell.model.classifier import log_softmax
from swarmcell.model.encoding import Array
from swarmcell.model.fixed import STATISTICS_BITS, Floats

TEMPERATURES = tuple(2.0 ** (i / 4) for i in range(-8, 17))  # 0.25 to 16; chosen
SHIFTS = tuple(i / 4 for i in range(-8, 9))  # nats, of the second class against the first; chosen
LOG_STEP = 0.17328679513998632  # ln 2 / 4
LOG_TEMPERATURE_SD, SHIFT_SD = 0.5, 0.75  # of the prior; chosen
_NLL_MAX = 64.0  # nats; one hopeless row must not drown a sum


@dataclass(frozen=True)
class Calibration:
    """What turns outputs into probabilities.

    Attributes
    ----------
    temperature
        Outputs are divided by it.
    shift
        Added to the outputs of the second of two classes, in nats; 0 for more classes.
    n
        Inner-validation rows that it was fitted on.
    """

    temperature: float = 1.0
    shift: float = 0.0
    n: int = 0

    def apply(self, outputs: Floats) -> Floats:
        """Return calibrated outputs, shape `(n_rows, n_classes)`."""
        calibrated = outputs / self.temperature
        if self.shift:
            calibrated = calibrated + np.array([-self.shift / 2, self.shift / 2])
        return np.asarray(calibrated)


def grid(n_classes: int) -> tuple[Calibration, ...]:
    """Return the grid's points, in order."""
    shifts = SHIFTS if n_classes == 2 else (0.0,)
    return tuple(Calibration(t, s) for t in TEMPERATURES for s in shifts)


def losses(outputs: Floats, y: npt.NDArray[np.int64], class_weights: Floats) -> npt.NDArray[np.int64]:
    """Return the sum of class-weighted negative log-likelihoods at each point, fixed point 2**-24."""
    points = grid(outputs.shape[1])
    sums = np.zeros(len(points), np.int64)
    weights = class_weights[y]
    for i, point in enumerate(points):
        nll = -log_softmax(point.apply(outputs))[np.arange(len(y)), y]
        sums[i] = np.rint(np.minimum(nll, _NLL_MAX) * weights * (1 << STATISTICS_BITS)).astype(np.int64).sum()
    return sums


def best(sums: Array, n_classes: int) -> int:
    """Return the number of the best point of summed losses, the prior included; the first of equals."""
    n_shifts = len(SHIFTS) if n_classes == 2 else 1
    costs = [int(total) + _prior(*divmod(i, n_shifts), n_shifts) for i, total in enumerate(sums.tolist())]
    return min(range(len(costs)), key=lambda i: (costs[i], i))


def _prior(at_temperature: int, at_shift: int, n_shifts: int) -> int:
    """Return the prior's part of the cost, fixed point 2**-24, of products of fixed numbers: equal everywhere."""
    log = (at_temperature - 8) * LOG_STEP / LOG_TEMPERATURE_SD
    shift = (at_shift - n_shifts // 2) * 0.25 / SHIFT_SD
    return round((log * log + shift * shift) / 2 * (1 << STATISTICS_BITS))
