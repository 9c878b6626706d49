"""What a backend is given and what it gives back: the contract between skuq and the frameworks.

`Program` says what is compiled, `Knobs` the numbers it runs with, `Trainer` what a backend's trainer does with them, `Fitted`
what native models are built from. ``tests/test_conformance.py`` holds every backend to a reference of this contract.
"""

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from .._model.network import Network
from .._model.posteriors import Fitted
from .._model.variational import Posterior

# Adam (Kingma & Ba 2015), the same in every backend.
ADAM_BETA1, ADAM_BETA2, ADAM_EPSILON = 0.9, 0.999, 1e-8
# A member's gradient longer than this many times its root mean square so far, as Adam's second moment remembers it, is
# shortened to that. Adam's first moment would carry it ten steps on and move each weight by 30 rates in one direction; where
# the noise is at its floor, one such batch can leave a network that never comes back.
LONGEST_GRADIENT = 5.0


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
    dropout_rate: float = 0.0
    spec_norm_bound: float = 1.0
    beta: float = 0.0
    kl_weight: float = 0.0
    prior_scale: np.ndarray = field(default_factory=lambda: np.ones(0, np.float32))
    prior_ratio: float = 1.0
    prior_mix: float = 1.0
    fixed: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))


class Trainer(Protocol):
    """Trains the M members of one program, all at once.

    All arrays that cross are NumPy's, float32; others are converted. M members have parameters of their own and nothing else:
    they share program, knobs and fixed features, and no member's numbers depend on another's parameters or rows.

    Parameters
    ----------
    program : Program
    parameters : ndarray of shape (M, program.n_parameters)
        Where training starts; copied. For a point network flat weights as `Network.tensors` lays them out, for a variational
        posterior ``[means | spreads | constants]`` as `Posterior.split` has them.
    features : dict of ndarray
        What `Network.fixed_shapes` lists.
    knobs : Knobs
    seed : int
        Of every random number drawn. Equal seeds give equal numbers in any process; no global generator is touched.
    device : {"cpu", "cuda"}
        ``RuntimeError`` if the framework finds no such device.

    Notes
    -----
    One step, from θ, for each member by itself:

    1. The loss, in nats: Σ weight · negative log-likelihood over the batch's rows, mean over `n_train_samples` weight samples;
       + kl_weight · KL(posterior ‖ prior) + ½ l2 ‖W‖² over `Program.kernel_mask` + ½ ridge ‖β‖² over the output weights on
       random features. With β-NLL each target's negative log-likelihood is multiplied by its scale^(2β) (`Head.scales_loss`).
    2. Its gradient, in which that factor is held constant, and so are `Network.frozen` tensors, whose gradient is 0.
    3. A gradient longer than `LONGEST_GRADIENT` times the root mean square of the member's gradients so far is shortened to
       that. The mean square forgets, and is corrected for its start, as Adam's second moment; a shortened gradient counts as it
       was shortened. Nothing is shortened before the first gradient that is not zero.
    4. Adam (Kingma & Ba 2015, algorithm 1) with the step's learning rate.
    5. With `Program.l1`, the proximal step in Adam's own metric: each kernel weight moves towards zero, and not beyond it, by
       learning rate · l1 / (√v̂ + ε).
    6. With `Program.spectral_norm`, each of `Network.hidden_kernels` is multiplied by min(1, bound / σ̂), σ̂ from one power
       iteration that carries its singular vector from step to step. A kernel that is zero keeps its vector.
    """

    def __init__(
        self,
        program: Program,
        parameters: np.ndarray,
        features: dict[str, np.ndarray],
        knobs: Knobs,
        seed: int,
        device: str = "cpu",
    ) -> None: ...

    def run(self, X: np.ndarray, y: np.ndarray, weight: np.ndarray, learning_rate: np.ndarray) -> np.ndarray:
        """Take K steps, one for each leading entry of the arrays; the same in one run as in several.

        Parameters
        ----------
        X : ndarray of shape (K, M, B, n_features)
            Finite everywhere. The number of rows B is the same for all steps and, for a backend that compiles, for all runs of a
            trainer.
        y : ndarray of shape (K, M, B, n_targets)
            0 or 1 for two classes, one-hot for more; else `Head.n_outputs` targets, and behind them the row's exposure where the
            head has one.
        weight : ndarray of shape (K, M, B)
            Of each row in the loss, already divided by the number of rows. A row of weight 0 pads the batch: it changes no
            number, wherever its target lies.
        learning_rate : ndarray of shape (K,)

        Returns
        -------
        ndarray of shape (K, M), float32
            Loss of each step before its update. Not finite where training failed; nothing is raised then.
        """
        ...

    def parameters(self) -> np.ndarray:
        """Present parameters, a copy of shape (M, program.n_parameters), float32."""
        ...

    def load(self, parameters: np.ndarray) -> None:
        """Go on from these parameters, shape (M, program.n_parameters).

        Adam, the usual length of a gradient and the singular vectors start anew; random numbers go on.
        """
        ...

    def drawn(self) -> dict[str, np.ndarray]:
        """Random numbers of the last step taken, for whoever repeats it; empty for a program that draws none.

        ``noise`` (M, n_train_samples, n_layer_weights), standard normal, from which a posterior's weights were drawn, and
        ``masks`` (M, n_train_samples, B, n_units), 0 or 1 / (1 − dropout_rate), layer by layer along the last axis. A point
        network has one sample.
        """
        ...


class Backend(Protocol):
    """What the package of a backend offers."""

    @property
    def Trainer(self) -> type[Trainer]:
        """A class that keeps the contract of :class:`Trainer`."""

    def to_native(self, fitted: Fitted) -> Any:
        """Fitted model in the framework's own layers: a model, or a list of one for each member."""

    def from_native(self, model: Any, fitted: Fitted) -> Fitted:
        """Read a native model, trained further or not, back: `fitted` with its weights, posterior and precision."""
