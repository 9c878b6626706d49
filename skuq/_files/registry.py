"""Classes that a file may name, by names of their own: modules may move, what stands in a file may not.

A name is never given to another class, and a class that is no longer made is still read. A field or parameter that is added has
a default, which older files then take.
"""

from dataclasses import dataclass
from typing import Any

from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import KFold, ShuffleSplit, StratifiedKFold, StratifiedShuffleSplit

from .. import bnn, deep_ensemble, likelihoods, mc_dropout, probabilistic, sngp, transformer
from .._data import encoding, rows
from .._estimator import state
from .._estimator.base import Estimator
from .._model import gaussian_process, heads, network, posteriors, variational
from .._prediction import conformal
from ..calibration import ConformalClassifier, ConformalRegressor
from ..calibration._groups import Groups

# What skuq.save takes.
ESTIMATORS: dict[str, type] = {
    "ProbabilisticRegressor": probabilistic.ProbabilisticRegressor,
    "ProbabilisticClassifier": probabilistic.ProbabilisticClassifier,
    "MCDropoutRegressor": mc_dropout.MCDropoutRegressor,
    "MCDropoutClassifier": mc_dropout.MCDropoutClassifier,
    "DeepEnsembleRegressor": deep_ensemble.DeepEnsembleRegressor,
    "DeepEnsembleClassifier": deep_ensemble.DeepEnsembleClassifier,
    "BNNRegressor": bnn.BNNRegressor,
    "BNNClassifier": bnn.BNNClassifier,
    "SNGPRegressor": sngp.SNGPRegressor,
    "SNGPClassifier": sngp.SNGPClassifier,
    "ConformalRegressor": ConformalRegressor,
    "ConformalClassifier": ConformalClassifier,
    "UncertaintyTransformer": transformer.UncertaintyTransformer,
}

# Objects of parameters, and attributes that ``fit`` set.
OBJECTS: dict[str, type] = {
    **ESTIMATORS,
    "Normal": likelihoods.Normal,
    "Laplace": likelihoods.Laplace,
    "StudentT": likelihoods.StudentT,
    "LogNormal": likelihoods.LogNormal,
    "Gamma": likelihoods.Gamma,
    "Poisson": likelihoods.Poisson,
    "NegativeBinomial": likelihoods.NegativeBinomial,
    "ZeroInflatedGamma": likelihoods.ZeroInflatedGamma,
    "ZeroInflatedPoisson": likelihoods.ZeroInflatedPoisson,
    "ZeroInflatedNegativeBinomial": likelihoods.ZeroInflatedNegativeBinomial,
    "FrozenEstimator": FrozenEstimator,
    "KFold": KFold,
    "StratifiedKFold": StratifiedKFold,
    "ShuffleSplit": ShuffleSplit,
    "StratifiedShuffleSplit": StratifiedShuffleSplit,
}

# Dataclasses of the fitted state.
RECORDS: dict[str, type] = {
    "State": state.State,
    "Output": state.Output,
    "Noise": state.Noise,
    "Calibration": state.Calibration,
    "PointEstimates": posteriors.PointEstimates,
    "MaskedNetwork": posteriors.MaskedNetwork,
    "VariationalPosterior": posteriors.VariationalPosterior,
    "GaussianProcess": posteriors.GaussianProcess,
    "RandomFeatureGP": gaussian_process.RandomFeatureGP,
    "Posterior": variational.Posterior,
    "Prior": variational.Prior,
    "Network": network.Network,
    "Head": heads.Head,
    "Parameter": heads.Parameter,
    "Standardizer": rows.Standardizer,
    "Encoding": encoding.Encoding,
    "PiecewiseLinear": encoding.PiecewiseLinear,
    "Periodic": encoding.Periodic,
    "Scores": conformal.Scores,
    "Groups": Groups,
}

# The log density is its likelihood, and a head whose links are functions is what its likelihood makes of them.
DENSITY, HEAD_OF = "Density", "HeadOf"

NAMES: dict[type, str] = {kind: name for name, kind in {**OBJECTS, **RECORDS}.items()}
# What a class of the user's own has to be, so that a file may name it.
OWN = (likelihoods.Likelihood, Estimator)


@dataclass(frozen=True)
class Own:
    """Classes of the user's own, by name."""

    classes: dict[str, type]

    @classmethod
    def of(cls, classes: Any) -> "Own":
        """Read the argument of ``load``."""
        found: dict[str, type] = {}
        for kind in classes:
            if not (isinstance(kind, type) and issubclass(kind, OWN)):
                raise TypeError(
                    f"classes must hold subclasses of skuq.likelihoods.Likelihood or of an estimator of skuq, got {kind!r}."
                )
            if found.setdefault(kind.__name__, kind) is not kind:
                raise ValueError(
                    f"classes must have names that differ, got {kind.__name__} twice. Load what needs them one by one."
                )
        return cls(found)


def trusted_types() -> list[str]:
    """Types of skuq that a file of skops may hold: the list for its ``trusted=``.

    skops stores whole Pipelines without pickle, and loads only types that it is told to trust. These are the types of skuq's
    estimators, likelihoods and fitted state; what else a Pipeline holds, skops names by itself (``get_untrusted_types``).

    Returns
    -------
    list of str
        Sorted names with their modules. Types that a later version needs are added to what the list of that version says.

    See Also
    --------
    skuq.save : A single estimator, in one file.

    Examples
    --------
    >>> import skuq
    >>> "skuq.sngp.SNGPRegressor" in skuq.utils.trusted_types()
    True
    """
    theirs = (FrozenEstimator, KFold, ShuffleSplit, StratifiedKFold, StratifiedShuffleSplit)
    kinds = {*OBJECTS.values(), *RECORDS.values(), heads.Density} - set(theirs)
    return sorted(f"{kind.__module__}.{kind.__qualname__}" for kind in kinds)
