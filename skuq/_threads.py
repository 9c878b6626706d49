"""Threads of a prediction: one BLAS thread for each block of rows, the blocks side by side.

A matrix product split between BLAS threads waits at a barrier for each of them; where another process holds a core, a
product of a few rows then takes a hundred times as long. Whole blocks on threads of their own wait only at the end, and
the functions between the products run in parallel too.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache

from threadpoolctl import ThreadpoolController


@lru_cache(maxsize=1)
def _blas() -> ThreadpoolController:
    return ThreadpoolController().select(user_api="blas")


@contextmanager
def single_blas_thread():
    """Hold BLAS to one thread; gives the number of threads it had, which environment and callers may have lowered."""
    allowed = max((library["num_threads"] for library in _blas().info()), default=1)
    with _blas().limit(limits=1):
        yield allowed


def map_blocks(function: Callable, blocks: Iterable) -> list:
    """Apply `function` to each block, on as many threads as BLAS was allowed; results in order."""
    with single_blas_thread() as n_threads:
        blocks = list(blocks)
        if n_threads == 1 or len(blocks) < 2:
            return [function(block) for block in blocks]
        with ThreadPoolExecutor(n_threads) as pool:
            return list(pool.map(function, blocks))
