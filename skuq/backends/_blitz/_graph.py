"""Work that a GPU repeats, as one CUDA graph: launching its kernels one by one takes longer than they run."""

from collections.abc import Callable
from threading import Lock

import torch

# While one thread records, torch (2.11) lets no other replay: both count what they take from the same default generator.
_ONE_AT_A_TIME = Lock()


class Replayed:
    """Does the work of a function whose kernels it records at the second call and replays from then on.

    The function's work is on the GPU, in buffers of its own; the processor neither waits for a result nor chooses by one.
    """

    def __init__(self) -> None:
        self._arguments: list[torch.Tensor | None] | None = None
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, function: Callable[..., None], *arguments: torch.Tensor | None) -> None:
        """Call `function`, which returns nothing, with what the arguments hold now.

        Parameters
        ----------
        function : callable
            The same in every call.
        *arguments : Tensor or None
            Of the same shapes, and None in the same places, in every call.
        """
        first, owned = self._arguments is None, self._arguments
        if owned is None:
            owned = self._arguments = [None if a is None else torch.empty_like(a) for a in arguments]
        given = [(own, a) for own, a in zip(owned, arguments, strict=True) if own is not None and a is not None]
        torch._foreach_copy_([own for own, _ in given], [a for _, a in given])
        if first:
            # As it is: libraries set themselves up at their first use, which no recording allows.
            function(*owned)
            return
        with _ONE_AT_A_TIME:
            if self._graph is None:
                self._graph = self._recorded(function, owned)
            self._graph.replay()

    def _recorded(self, function: Callable[..., None], arguments: list[torch.Tensor | None]) -> torch.cuda.CUDAGraph:
        graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            # What other threads do meanwhile is not recorded.
            graph.capture_begin(capture_error_mode="thread_local")
            try:
                function(*arguments)
            finally:
                graph.capture_end()
        torch.cuda.current_stream().wait_stream(stream)
        return graph
