"""scikit-learn estimators that know what they do not know."""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version

from . import likelihoods
from ._files import load, save
from ._prediction.distributions import PredictiveCategorical, PredictiveMixture, Uncertainty
from ._summary import Summary, summary
from ._versions import show_versions
from .bnn import BNNClassifier, BNNRegressor
from .composites import (
    predict,
    predict_dist,
    predict_interval,
    predict_quantiles,
    predict_set,
    predict_uncertainty,
    sample_y,
)
from .deep_ensemble import DeepEnsembleClassifier, DeepEnsembleRegressor
from .mc_dropout import MCDropoutClassifier, MCDropoutRegressor
from .probabilistic import ProbabilisticClassifier, ProbabilisticRegressor
from .sngp import SNGPClassifier, SNGPRegressor
from .transformer import UncertaintyTransformer

try:
    __version__ = version("skuq")
except PackageNotFoundError:  # a source tree that is not installed
    __version__ = "0+unknown"

# Imported when first used, so that `import skuq` stays quick.
_LAZY = ("calibration", "metrics", "plot", "scorers", "utils")


def __getattr__(name):
    if name in _LAZY:
        return import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted([*globals(), *_LAZY])


__all__ = [
    "BNNClassifier",
    "BNNRegressor",
    "DeepEnsembleClassifier",
    "DeepEnsembleRegressor",
    "MCDropoutClassifier",
    "MCDropoutRegressor",
    "PredictiveCategorical",
    "PredictiveMixture",
    "ProbabilisticClassifier",
    "ProbabilisticRegressor",
    "SNGPClassifier",
    "SNGPRegressor",
    "Summary",
    "Uncertainty",
    "UncertaintyTransformer",
    "likelihoods",
    "load",
    "predict",
    "predict_dist",
    "predict_interval",
    "predict_quantiles",
    "predict_set",
    "predict_uncertainty",
    "sample_y",
    "save",
    "show_versions",
    "summary",
]
