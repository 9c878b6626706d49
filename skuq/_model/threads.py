"""Threads of a prediction: one BLAS thread for each block of rows, the blocks side by side.

A matrix product split between BLAS threads waits at a barrier for each of them; where another process holds a core, a
product of a few rows then takes a hundred times as long. Whole blocks on threads of their own wait only at the end, and
the functions between the products run in parallel too.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import lru_cache
from math import prod
from threading import Barrier, BrokenBarrierError, Lock

import numpy as np
from threadpoolctl import ThreadpoolController

# What is kept between calls, of each kind for as many as were in use at once: at most this many bytes for one.
KEPT_BYTES = 2**23
CACHE_LINE = 64
# Seconds that a thread waits for the others to start; then it begins without them.
LONGEST_WAIT = 1.0
# Taking from a list and adding to it need no lock.
_IDLE: dict[str, list] = {"blocks": [], "factors": []}


@lru_cache(maxsize=1)
def _blas() -> ThreadpoolController:
    return ThreadpoolController().select(user_api="blas")


class _SingleThread:
    """BLAS on one thread while anyone is inside; the last to leave puts back what the first had found.

    The number is taken for the process's, as OpenBLAS and MKL have it, not for each thread's.
    """

    def __init__(self):
        self.lock, self.n_inside = Lock(), 0

    def __enter__(self) -> int:
        with self.lock:
            allowed = max((library["num_threads"] for library in _blas().info()), default=1)
            if not self.n_inside:
                self.limit = _blas().limit(limits=1)
            self.n_inside += 1
            return allowed

    def __exit__(self, *_):
        with self.lock:
            self.n_inside -= 1
            if not self.n_inside:
                self.limit.restore_original_limits()


_SINGLE = _SingleThread()
if hasattr(os, "register_at_fork"):
    # Whoever was inside is not in the child.
    os.register_at_fork(after_in_child=_SINGLE.__init__)  # type: ignore[misc]


def single_blas_thread() -> _SingleThread:
    """Hold BLAS to one thread; gives the threads it had, which environment, callers and others inside may have lowered."""
    return _SINGLE


@contextmanager
def parallel_map(n_blocks: int):
    """Give a map of a function over `n_blocks` blocks, on as many threads as BLAS was allowed; its results in order."""
    with single_blas_thread() as allowed:
        n_threads = min(allowed, n_blocks)
        if n_threads < 2:
            yield lambda function, blocks: [function(block) for block in blocks]
            return
        with ThreadPoolExecutor(n_threads, initializer=_meet, initargs=(Barrier(n_threads),)) as pool:
            yield lambda function, blocks: list(pool.map(function, blocks))


def _meet(barrier):
    """Wait for the other threads: one that starts while another is busy may stay on that one's core for milliseconds."""
    with suppress(BrokenBarrierError):
        barrier.wait(LONGEST_WAIT)


class Scratch:
    """Arrays by name and shape, which the next block overwrites."""

    def __init__(self):
        self._arrays = {}

    def __call__(self, name: str, shape: tuple[int, ...], dtype) -> np.ndarray:
        """Array `name` of this shape and type, with any content."""
        key = name, shape, dtype
        if key not in self._arrays:
            self._arrays[key] = _aligned(shape, dtype)
        return self._arrays[key]

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(array.nbytes for array in self._arrays.values())


def _aligned(shape, dtype):
    """Empty array whose first number starts a cache line."""
    dtype = np.dtype(dtype)
    size = prod(shape) * dtype.itemsize
    memory = np.empty(size + CACHE_LINE, np.uint8)
    start = -memory.ctypes.data % CACHE_LINE
    return memory[start : start + size].view(dtype).reshape(shape)


@contextmanager
def borrowed_scratch(kind: str = "blocks"):
    """Arrays for one block, kept for the next one of any thread, in this call or a later one; or "factors" for all blocks.

    The pages of a fresh array are mapped and zeroed at their first use, which for a block takes longer than its arithmetic.
    """
    try:
        scratch = _IDLE[kind].pop()
    except IndexError:
        scratch = Scratch()
    yield scratch
    if scratch.nbytes <= KEPT_BYTES:
        _IDLE[kind].append(scratch)
