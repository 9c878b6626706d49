"""The wall between skuq and the frameworks: what a backend is given, what it gives back, how one is found.

A backend is a package ``backends/_<name>`` with modules of the same names and functions in each:

``_namespace.py``
    The functions of ``skuq/_model/namespace.py`` for the framework's arrays.
``_losses.py``
    ``negative_log_likelihood(head, raw, constants, fixed, y, beta)``, of the log density that the head holds.
``_trainer.py``
    ``Trainer(program, parameters, features, knobs, seed, device)`` with ``run(X, y, weight, learning_rate)``,
    ``parameters()`` and ``load(parameters)``.
``_native.py``
    ``to_native(fitted)`` and ``from_native(model, fitted)``: the same weights in the framework's own layers; what a
    regressor returns stands in ``_distributions.py``.

Arrays cross the wall, nothing else. A backend never validates, scales, splits rows or knows scikit-learn; the ladder
in ``skuq/_training/loop.py`` does the rest in NumPy, once for all backends.
"""

import importlib
from dataclasses import dataclass, field
from importlib.util import find_spec

import numpy as np

from .._model.network import Network
from .._model.posteriors import Fitted as Fitted
from .._model.variational import Posterior

# Order of preference for backend="auto": compiled training first.
BACKENDS = {
    "tensorflow": (("tensorflow", "tensorflow_probability", "tf_keras"), "skuq[tensorflow]"),
    "blitz": (("torch", "blitz"), "skuq[blitz]"),
}


@dataclass(frozen=True)
class Program:
    """What a backend compiles: everything that changes the code and nothing that is only a number.

    Two estimators with equal programs (and equal array shapes) share one compiled function.

    Attributes
    ----------
    network : Network
    posterior : Posterior or None
        None trains weights; else the parameters of the posterior, by samples of the evidence lower bound.
    prior : {"normal", "scale_mixture"} or None
        Prior of a variational posterior: closed-form KL for "normal", the sampled log q − log p for the mixture
        (and for "normal" wherever `posterior` is "full_covariance", in closed form as well).
    n_train_samples : int
        Weight samples per step of a variational posterior, batched.
    dropout : bool
        Fresh unit masks each step, one for each row, inverted dropout.
    l1 : bool
        Proximal soft threshold after each step.
    spectral_norm : bool
        Kernels of hidden layers are scaled back to the bound after each step, by one carried power iteration.
    """

    network: Network
    posterior: Posterior | None = None
    prior: str | None = None
    n_train_samples: int = 1
    dropout: bool = False
    l1: bool = False
    spectral_norm: bool = False

    @property
    def n_parameters(self) -> int:
        """Length of the flat vector trained for one member."""
        return self.posterior.n_parameters if self.posterior else self.network.n_weights

    def mean_weights(self, parameters: np.ndarray) -> np.ndarray:
        """Weights (n_members, n_weights) that stand for trained parameters: themselves, or the posterior's means."""
        return self.posterior.mean_weights(parameters) if self.posterior else parameters

    @property
    def kernel_mask(self) -> np.ndarray:
        """1 where a trained number is a kernel's weight (or its posterior mean), else 0; shape (n_parameters,)."""
        if self.posterior is None:
            return self.network.kernel_mask
        n_layer = self.network.n_layer_weights
        mask = np.zeros(self.n_parameters, np.float32)
        mask[:n_layer] = self.network.kernel_mask[:n_layer]
        return mask


@dataclass(frozen=True)
class Knobs:
    """The numbers of a training run; changing one never compiles anything anew.

    Attributes
    ----------
    l1, l2 : float
        Penalty of one step's loss: l1·‖W‖₁ (by the proximal step) + ½·l2·‖W‖² (in the gradient), over kernels.
    ridge : float
        ½·ridge·‖β‖² in the gradient, over the output weights β on random features.
    weight_decay : float
        Decoupled decay of kernels (Loshchilov & Hutter 2019): W ← W − learning rate · decay · W.
    dropout_rate : float
    spec_norm_bound : float
    beta : float
        β of the β-NLL.
    kl_weight : float
        Factor of the KL divergence in one step's loss: the user's kl_weight over the (weighted) number of rows.
    prior_scale : ndarray of shape (n_layer_weights,)
        Standard deviation of the prior, weight by weight; the first component's for a scale mixture.
    prior_ratio : float
        Second component's standard deviation over the first's ("scale_mixture").
    prior_mix : float
        Weight of the first component ("scale_mixture").
    fixed : ndarray of shape (head.n_fixed,)
        The likelihood's parameters that the user fixed, then the units of the targets, if the head has them.
    """

    l1: float = 0.0
    l2: float = 0.0
    ridge: float = 0.0
    weight_decay: float = 0.0
    dropout_rate: float = 0.0
    spec_norm_bound: float = 1.0
    beta: float = 0.0
    kl_weight: float = 0.0
    prior_scale: np.ndarray = field(default_factory=lambda: np.ones(0, np.float32))
    prior_ratio: float = 1.0
    prior_mix: float = 1.0
    fixed: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))


# Adam (Kingma & Ba 2015), the same in every backend.
ADAM_BETA1, ADAM_BETA2, ADAM_EPSILON = 0.9, 0.999, 1e-8
# A member's gradient longer than this many times its root mean square so far, as Adam's second moment remembers it, is
# shortened to that. Adam's first moment would carry it ten steps on and move each weight by 30 rates in one direction; where
# the noise is at its floor, one such batch can leave a network that never comes back.
LONGEST_GRADIENT = 5.0


def available() -> list[str]:
    """Names of the backends whose libraries are installed, in the order ``backend="auto"`` tries them.

    Nothing is imported.

    Examples
    --------
    >>> from skuq import backends
    >>> set(backends.available()) <= {"tensorflow", "blitz"}
    True
    """
    return [name for name, (modules, _) in BACKENDS.items() if all(find_spec(m) is not None for m in modules)]


def resolve(name: str) -> str:
    """Return the name of an installed backend, or raise ImportError naming the extra to install."""
    installed = available()
    if name == "auto":
        if not installed:
            extras = " or ".join(f"pip install '{extra}'" for _, extra in BACKENDS.values())
            raise ImportError(f"No backend is installed: training needs TensorFlow or PyTorch. Install one: {extras}.")
        return installed[0]
    if name not in installed:
        modules, extra = BACKENDS[name]
        missing = [m for m in modules if find_spec(m) is None]
        raise ImportError(
            f"backend={name!r} needs {', '.join(missing)}, which is not installed. Install it with "
            f"pip install '{extra}', or choose another backend (installed: {installed or 'none'})."
        )
    return name


def load(name: str):
    """Import and return the backend package of that name."""
    return importlib.import_module(f"skuq.backends._{resolve(name)}")
