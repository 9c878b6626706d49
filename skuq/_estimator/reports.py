"""What fitted attributes say of the weights: sparsity, and the coefficients of a linear model."""

import numpy as np

from .state import State


def n_nonzero_weights(state: State) -> int:
    """Kernel weights of all networks that are not exactly zero."""
    return int(np.count_nonzero(state.posterior.mean_weights * state.network.kernel_mask))


def selected_features(state: State) -> np.ndarray:
    """Features with any nonzero outgoing weight, of their own or of a part's, ndarray of bool, (n_features,)."""
    network = state.network
    if network.n_inducing and not network.hidden_layer_sizes:
        # Random features of the inputs themselves see all of them.
        used = np.ones(network.n_features, bool)
    else:
        first = network.views(state.posterior.mean_weights)[network.input_kernel.name]
        outgoing = np.any(first != 0, axis=(0, 2))
        used, parts = outgoing[: network.n_features], outgoing[network.n_features :]
        if network.n_encoded:
            used[state.encoding.features] |= parts.reshape(network.n_encoded, -1).any(axis=1)
    if state.output.exposure is not None:
        used[state.output.exposure] = False
    return used


def linear_coefficients(state: State) -> tuple[np.ndarray, np.ndarray | float] | None:
    """Coefficients and intercept of a linear model in the user's units, the mean over networks; None of any other."""
    network, output = state.network, state.output
    if network.hidden_layer_sizes or network.n_inducing:
        return None
    views, n_outputs = network.views(state.posterior.mean_weights), output.head.n_outputs
    kernel, bias = (views[tensor.name].mean(axis=0).T.astype(float)[:n_outputs] for tensor in network.layers[-1])
    x, y = state.x_standardizer, output.standardizer
    if output.likelihood is not None and output.likelihood.target_transform in ("divide", "count"):
        # log mean = log of y's unit + raw output
        slope, offset = np.ones_like(y.scale), np.log(y.scale)
    else:
        slope, offset = y.scale, y.shift
    coef = kernel / x.scale * slope[:, None]
    intercept = offset + slope * bias - coef @ x.shift
    if output.likelihood is None:
        calibration = state.calibration
        return coef / calibration.temperature, intercept / calibration.temperature - calibration.log_class_weight
    return (coef[0], float(intercept[0])) if output.single else (coef, intercept)
