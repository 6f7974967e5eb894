"""Who is inside: a million coordinates against one geofence, exactly."""

import numpy as np
import numpy.typing as npt

from geo.shapes import Geofence, Mask


def inside(fence: Geofence, lats: npt.ArrayLike, lons: npt.ArrayLike) -> Mask:
    """A mask as long as the arrays of degrees: who stands in the fence or on its boundary, each one once.

    NaN is never inside.
    """
    lat, lon = np.asarray(lats, dtype=np.float64), np.asarray(lons, dtype=np.float64)
    found = np.zeros(lat.shape, dtype=bool)
    near = np.flatnonzero(fence.bounds.hold(lat, lon))
    found[near] = fence.covers(lat[near], lon[near])
    return found
