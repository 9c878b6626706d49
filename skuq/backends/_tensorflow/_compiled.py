"""A function that XLA compiles on the processor, whose machine code goes when it goes."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf


class Compiled:
    """Arrays in, arrays out, by a graph in a session of its own.

    TensorFlow (2.20) keeps what XLA compiles for as long as the devices live, and those of eager execution live as long as the
    process, whether or not the function does. A session has devices of its own, which it takes along.

    Parameters
    ----------
    function : callable of tensors
        Returns a tuple of them.
    signature : sequence of tf.TensorSpec
    """

    def __init__(self, function: Callable[..., Any], signature: Sequence[tf.TensorSpec]) -> None:
        v1, threads = tf.compat.v1, tf.config.threading
        with tf.Graph().as_default() as graph, tf.device("/CPU:0"):
            inputs = [v1.placeholder(spec.dtype, spec.shape) for spec in signature]
            outputs = tf.function(function, jit_compile=True, autograph=False)(*inputs)
        # The user's threads, and no GPU, whose memory a session would take.
        config = v1.ConfigProto(
            device_count={"GPU": 0},
            intra_op_parallelism_threads=threads.get_intra_op_parallelism_threads(),
            inter_op_parallelism_threads=threads.get_inter_op_parallelism_threads(),
        )
        self._session = v1.Session(graph=graph, config=config)
        self._run = self._session.make_callable(list(outputs), feed_list=inputs)

    def __call__(self, *arrays: np.ndarray) -> list[np.ndarray]:
        """Results for arrays of the signature's shapes."""
        return self._run(*arrays)
