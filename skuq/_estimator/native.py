"""A fitted state as the backend's own layers, and back."""

from dataclasses import replace
from typing import Any

from .. import backends
from .._model.posteriors import Fitted
from .state import State


def as_fitted(state: State) -> Fitted:
    """What a native model is built from."""
    output, noise, calibration = state.output, state.noise, state.calibration
    return Fitted(
        posterior=state.posterior,
        fixed=output.fixed,
        x_shift=state.x_standardizer.shift,
        x_scale=state.x_standardizer.scale,
        y_shift=output.standardizer.shift,
        y_scale=output.standardizer.scale,
        noise_scale=noise.scale[0, 0],
        noise_power=noise.power[0, 0],
        noise_limit=noise.limit[0, 0],
        log_target=output.likelihood is not None and output.likelihood.target_transform == "log",
        temperature=calibration.temperature,
        log_class_weight=calibration.log_class_weight,
        exposure=output.exposure,
    )


def to_native(state: State, backend: str) -> Any:
    """The model in the layers of `backend`, or a list of models for several networks."""
    return backends.load(backend).to_native(as_fitted(state))


def from_native(state: State, model: Any, backend: str) -> State:
    """The state with the weights of a native model.

    Raises
    ------
    ValueError
        If conformal intervals or sets were calibrated for the weights of ``fit``.
    """
    if state.calibration.conformal is not None:
        raise ValueError(
            "The conformal calibration of this estimator holds for the weights of fit, not for others. Fit with "
            "calibration=None, read the weights back, and calibrate on rows kept apart: "
            "skuq.calibration.Conformal…(estimator, cv='prefit')."
        )
    return replace(state, posterior=backends.load(backend).from_native(model, as_fitted(state)).posterior)
