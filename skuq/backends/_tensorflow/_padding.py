"""Features padded to few numbers, so that few shapes are compiled.

A search over columns would compile a function for each number of them; so columns of zeros are
added up to the next of eight sizes an octave, and the weights on them, which no gradient reaches, stay zero.
"""

from dataclasses import replace

import numpy as np

from .._protocol import Program

# Up to here each number of features is compiled by itself.
EXACT = 16


def padded_features(n_features: int) -> int:
    """Smallest size that holds `n_features`: at most an eighth larger."""
    if n_features <= EXACT:
        return n_features
    step = 1 << ((n_features - 1).bit_length() - 4)
    return -(-n_features // step) * step


class Padding:
    """A program for more features, and where the numbers of the given one stand in it.

    Parameters
    ----------
    program : Program
    """

    def __init__(self, program: Program) -> None:
        self.inner = program
        network, posterior = program.network, program.posterior
        self._where: slice | np.ndarray = slice(None)
        self._layer_weights: slice | np.ndarray = slice(None)
        # The triangle of a full covariance and the random features of raw columns have other layouts.
        full = posterior is not None and posterior.kind == "full_covariance"
        direct = network.n_inducing and not network.hidden_layer_sizes
        n_features, encoding = padded_features(network.n_features), network.encoding
        if encoding is not None and encoding.n_encoded is not None:
            encoding = replace(encoding, n_encoded=padded_features(encoding.n_encoded))
        wider = replace(network, n_features=n_features, encoding=encoding)
        if full or direct or wider == network:
            return
        width = network.input_kernel.shape[1]
        parts = n_features + np.arange(network.n_inputs - network.n_features)
        inputs = np.concatenate([np.arange(network.n_features), parts])
        # Only the first layer's kernel and the learned numbers of the encoding have an axis of features: their first axis.
        places = []
        for own, padded in zip(network.tensors, wider.tensors, strict=True):
            within = np.arange(own.stop - own.start)
            if own is network.input_kernel:
                within = (inputs[:, None] * width + np.arange(width)).ravel()
            places.append(padded.start + within)
        weights = np.concatenate(places)
        if posterior is None:
            self.inner, self._where = replace(program, network=wider), weights
            return
        layer_weights, points = np.split(weights, [network.n_layer_weights])
        self._layer_weights = layer_weights
        posterior = replace(posterior, network=wider)
        self.inner = replace(program, network=wider, posterior=posterior)
        n = wider.n_layer_weights
        self._where = np.concatenate([layer_weights, n + layer_weights, n + points])

    def parameters(self, parameters: np.ndarray) -> np.ndarray:
        """Parameters (M, program.n_parameters) → (M, inner.n_parameters), 0 on what is padded."""
        return self._spread(parameters, self.inner.n_parameters, self._where)

    def own(self, parameters: np.ndarray) -> np.ndarray:
        """Parameters of the program out of those of the padded one."""
        return parameters[:, self._where]

    def own_weights(self, values: np.ndarray) -> np.ndarray:
        """Values of the program's own kernels and biases, along the last axis, out of those of the padded one."""
        return values[..., self._layer_weights]

    def prior_scale(self, prior_scale: np.ndarray) -> np.ndarray:
        """Prior scales (n_layer_weights,) with 0 for weights that are padded: they have no prior."""
        return self._spread(prior_scale, self.inner.network.n_layer_weights, self._layer_weights)

    def features(self, features: dict) -> dict:
        """Fixed arrays of the network; padded with 0, so that a padded part is 0 whatever the column that it encodes."""
        padded = dict(features)
        for name, shape in self.inner.network.fixed_shapes.items():
            own = features[name]
            if own.shape != shape:
                padded[name] = np.zeros(shape, own.dtype)
                padded[name][tuple(slice(size) for size in own.shape)] = own
        return padded

    @staticmethod
    def _spread(values: np.ndarray, size: int, where: slice | np.ndarray) -> np.ndarray:
        wide = np.zeros((*values.shape[:-1], size), np.float32)
        wide[..., where] = values
        return wide
