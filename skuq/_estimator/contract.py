"""What a method and a task owe the ladder of ``fit``."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np

from .._data.encoding import Encoding
from .._model.heads import Head
from .._model.network import Network
from .._model.posteriors import WeightPosterior
from .._training.members import Members
from ..backends import Knobs, Program
from ..likelihoods import Likelihood
from .auto import Auto, activation_of
from .common import CommonParameters
from .state import Noise, Problem, State
from .targets import TargetReader


class Contract(CommonParameters, ABC):
    """Hooks of ``fit``, in the order in which it calls them, and what stands on every fitted estimator.

    A method owes :meth:`_posterior`, and overrides what else it does in its own way; a task (:mod:`.classification`,
    :mod:`.regression`) owes :meth:`_read_target`, :meth:`_fit_noise` and :meth:`_conformity_scores`. ``fit`` hands everything on
    by return values: afterwards the estimator has its parameters, its public attributes and one :class:`State`.
    """

    # The estimator's own row of the table of "auto" rules.
    _auto: ClassVar[Auto]
    # A parameter that each task declares with its own choices.
    calibration: str | None

    _state: State
    backend_: str
    n_features_in_: int
    feature_names_in_: np.ndarray
    n_iter_: int
    loss_: float
    loss_curve_: list[float]
    validation_loss_curve_: list[float] | None
    n_nonzero_weights_: int
    selected_features_: np.ndarray
    encoded_features_: np.ndarray
    coef_: np.ndarray
    intercept_: np.ndarray | float

    @property
    def _l1(self) -> bool:
        return self.regularizer in ("l1", "elasticnet")

    # What a task owes.

    @abstractmethod
    def _read_target(self, y: Any, sample_weight: np.ndarray) -> tuple[TargetReader, np.ndarray]:
        """Check the targets, set the attributes that say what they are, and give their reader and them, (n_rows, n_outputs)."""

    @abstractmethod
    def _fit_noise(self, problem: Problem, members: Members, parameters: np.ndarray) -> tuple[Noise, float]:
        """What held-out rows say of the learned noise, and the share of the draws' spread that they ask for.

        Parameters
        ----------
        problem : Problem
        members : Members
        parameters : ndarray of shape (n_members, n_parameters)
            Of all networks, siblings too.
        """

    @abstractmethod
    def _conformity_scores(self, X: Any, y: np.ndarray) -> np.ndarray:
        """Scores of validated rows that the model has not seen, from which conformal intervals or sets are made."""

    # What a method owes.

    @abstractmethod
    def _posterior(self, problem: Problem, parameters: np.ndarray, spread: float = 1.0) -> WeightPosterior:
        """What trained parameters (n_networks, n_parameters) stand for, draws at a share of their spread."""

    # What a method may do in its own way.

    def _n_networks(self) -> int:
        """Networks that make up the estimator."""
        return 1

    def _jobs(self) -> int | None:
        """Processes to train in; more than one only where no network is another's sibling."""
        return None

    def _may_encode(self, likelihood: Likelihood | None) -> bool:
        """Whether ``input_encoding="auto"`` may encode the inputs; `likelihood` is None of a classifier."""
        # An L1 penalty selects features, which bins would blur. A count's or an amount's zeros are few, and bins overfit them.
        if not self._auto.encodes or self._l1:
            return False
        return likelihood is None or not likelihood.has_zero_probability

    def _network(
        self, n_features: int, encoding: Encoding, sizes: tuple[int, ...], head: Head, is_table: bool
    ) -> Network:
        """The network to train."""
        return Network(
            n_features=n_features,
            hidden_layer_sizes=sizes,
            activation=activation_of(self.activation, self._auto, is_table),
            architecture=self.architecture,
            head=head,
            encoding=encoding.kind,
        )

    def _features(self, network: Network, seed: np.random.SeedSequence) -> dict[str, np.ndarray]:
        """Fixed random features of a network, drawn from `seed`."""
        return {}

    def _program(self, network: Network) -> Program:
        """What a backend compiles."""
        return Program(network, dropout=self.dropout_rate > 0, l1=self._l1)

    def _knobs(self, problem: Problem) -> Knobs:
        """The numbers of a training run."""
        share = {None: 0.0, "l1": 1.0, "l2": 0.0, "elasticnet": self.l1_ratio}[self.regularizer]
        alpha = self.alpha if self.regularizer else 0.0
        likelihood = problem.target.likelihood
        return Knobs(
            l1=alpha * share,
            l2=alpha * (1 - share),
            dropout_rate=self.dropout_rate,
            beta=likelihood.loss_beta if likelihood else 0.0,
            fixed=problem.target.fixed,
        )

    def _starting_parameters(
        self, problem: Problem, rngs: list[np.random.Generator], previous: State | None
    ) -> np.ndarray:
        """Parameters (n_members, n_parameters) at which training starts."""
        network = problem.network
        n_parameters = self._program(network).n_parameters
        if previous is not None and previous.network == network and previous.parameters.shape[1] == n_parameters:
            return np.resize(previous.parameters, (len(rngs), n_parameters))
        raw_bias, constants = problem.target.marginal_fit()
        small = self._starts_small(problem)
        return np.stack([network.initial_weights(rng, raw_bias, constants, small) for rng in rngs])

    def _starts_small(self, problem: Problem) -> bool:
        """Whether the first kernels start small."""
        # An L1 penalty would hold at zero what starts near it.
        return self._auto.smooth and problem.is_table and not self._l1

    def _refine(self, problem: Problem, members: Members, parameters: np.ndarray) -> np.ndarray:
        """Parameters of all networks, made better where a method knows how without another step of training."""
        return parameters

    def _finish(self, problem: Problem, parameters: np.ndarray, spread: float) -> WeightPosterior:
        """The posterior that is kept, of the parameters of the networks that are kept."""
        return self._posterior(problem, parameters, spread)
