"""Stand-in until the real one lands."""
from numba import njit
def compiled(function=None, **options):
    decorate = njit(cache=True, nogil=True, error_model='numpy', **options)
    return decorate if function is None else decorate(function)
