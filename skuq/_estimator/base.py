"""The fit ladder that all ten estimators share, and the parameters they have in common."""

from dataclasses import dataclass, field, replace
from numbers import Integral, Real
from typing import ClassVar

import numpy as np
from scipy import sparse
from sklearn.base import BaseEstimator, _fit_context
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from .. import backends
from .._data.encoding import ENCODINGS, MAX_ENCODED, Encoding, many_valued
from .._data.folds import count_copies
from .._data.rows import Standardizer, canonical_csr, canonical_rows
from .._model.draws import Draws
from .._model.network import ACTIVATIONS, ARCHITECTURES, Network
from .._training.jobs import Job, group_members, report, train_group, train_in_groups
from .._training.loop import Rows, Schedule
from .._training.members import Members, plan_members
from .._training.progress import CallbackSupportMixin, callbacks, watched
from .._validation import check_backend_name, check_columns
from ..backends import Fitted, Knobs, Program
from ..likelihoods import Head, Likelihood
from .parameters import estimator, parameter
from .self_calibration import Calibration, calibrate, plan_calibration

_POSITIVE = Interval(Real, 0, None, closed="neither")
_NON_NEGATIVE = Interval(Real, 0, None, closed="left")
_AT_LEAST_ONE = Interval(Integral, 1, None, closed="left")
# Share of the epochs, the rate still rising, in which every epoch is scored: what is mostly noise is at its best there and soon
# past it. Members of an ensemble average their noise out and may go past it.
WATCHED = 0.1
# Steps of max_iter=None for each n^0.45 rows, at most, where inputs are encoded.
ENCODED_STEPS = 200


@dataclass(frozen=True)
class Target:
    """Targets as a trainer sees them, and how to read them back.

    Attributes
    ----------
    head : Head
    y : ndarray of shape (n_rows, n_targets), float32
        Standardised values, values over their mean, counts (their exposure in a last column, if the head has one), 0/1, or
        one-hot classes.
    weight : ndarray of shape (n_rows,)
        Weight of each row in the loss: sample weight times class weight.
    strata : ndarray of shape (n_rows,) or None
        Class codes, for stratified held-out rows.
    standardizer : Standardizer
        Shift and scale of the targets; of counts, which stay what they are, the scale is the unit of their mean.
    likelihood : Likelihood or None
        None for classifiers.
    """

    head: Head
    y: np.ndarray
    weight: np.ndarray
    strata: np.ndarray | None
    standardizer: Standardizer
    likelihood: Likelihood | None = None

    @property
    def fixed(self) -> np.ndarray:
        """Parameters of the likelihood that the user fixed, then the units of the targets if the head has them, float32."""
        return np.asarray(self.likelihood.fixed_values(self.standardizer.scale) if self.likelihood else (), np.float32)

    def marginal_fit(self) -> tuple[np.ndarray, np.ndarray]:
        """Raw outputs and raw constants at which training starts."""
        if self.likelihood:
            y, weight, units = self.y[:, : self.head.n_outputs].astype(float), self.weight, self.standardizer.scale
            if self.head.has_exposure:
                # Counts at the mean exposure, each as sure as its own is long. Where Var[y] = e m + (e m)² / r, their weighted
                # variance is ē m + (ē m)² / r, whereas that of the counts themselves holds the spread of e too.
                exposure = self.y[:, -1].astype(float)
                mean = np.average(exposure, weights=weight)
                y, weight, units = y * (mean / exposure)[:, None], weight * exposure / mean, units * mean
            return self.likelihood.initial_raw(y, weight, units)
        frequency = np.clip(np.average(self.y, axis=0, weights=self.weight), 1e-4, 1 - 1e-4)
        raw = np.log(frequency / (1 - frequency)) if self.head.family == "bernoulli" else np.log(frequency)
        return raw, np.empty(0)


@dataclass(frozen=True)
class State:
    """Everything a fitted estimator predicts with: arrays and specs, no framework object.

    Attributes
    ----------
    network : Network
    parameters : ndarray of shape (n_networks, n_parameters)
        Trained weights, or posterior parameters.
    draws : Draws
    x_standardizer, y_standardizer : Standardizer
    likelihood : Likelihood or None
    head : Head
    fixed : ndarray of shape (head.n_fixed,)
    noise_scale : ndarray of shape (1, 1, n_outputs)
        Factor of the learned noise scale, from held-out rows.
    noise_limit : ndarray of shape (1, 1, n_outputs)
        Largest noise scale, after `noise_scale`, that held-out rows support; infinite where it is not limited.
    standardized : bool
        Whether rows and targets were standardised.
    settings : dict
        Parameters that prediction reads, as they were in ``fit``: changing one later changes no prediction.
    extra : object
        What a method alone needs (the Gaussian process of SNGP).
    calibration : Calibration
        Temperature, or conformal intervals and sets; neither where ``calibration=None``.
    dropout_rate : float
        Of the draws, where draws are thinned networks, and of a native model's layers.
    encoding : Encoding
        Which features are encoded.
    """

    network: Network
    parameters: np.ndarray
    draws: Draws
    x_standardizer: Standardizer
    y_standardizer: Standardizer
    likelihood: Likelihood | None
    head: Head
    fixed: np.ndarray
    noise_scale: np.ndarray = field(default_factory=lambda: np.ones((1, 1, 1)))
    noise_limit: np.ndarray = field(default_factory=lambda: np.full((1, 1, 1), np.inf))
    standardized: bool = True
    settings: dict = field(default_factory=dict)
    extra: object = None
    calibration: Calibration = field(default_factory=Calibration)
    dropout_rate: float = 0.0
    encoding: Encoding = field(default_factory=Encoding)


@dataclass(frozen=True)
class Problem:
    """One fit, between validation and the fitted state.

    `is_table` tells columns that mean something by themselves from embeddings: at most `MAX_ENCODED` of more than two values.
    """

    network: Network
    rows: Rows
    target: Target
    x_standardizer: Standardizer
    seeds: dict
    features: dict
    encoding: Encoding
    is_table: bool = True


@estimator
class Estimator(CallbackSupportMixin, BaseEstimator):
    """Base of the ten: parameters in common and the ladder of ``fit``.

    A method gives :meth:`_program`, :meth:`_starting_parameters` and :meth:`_finish`; a task gives the targets and
    the predictions.
    """

    hidden_layer_sizes: tuple = parameter(
        (64, 64),
        ["array-like", Interval(Integral, 1, None, closed="left")],
        """tuple of int
        Widths of the hidden layers; () is a linear model.""",
    )
    activation: str = parameter(
        "silu",
        [StrOptions(set(ACTIVATIONS))],
        """{"identity", "relu", "tanh", "logistic", "silu", "gelu", "elu", "softplus"}
        Activation of the hidden layers.""",
    )
    architecture: str = parameter(
        "mlp",
        [StrOptions(set(ARCHITECTURES))],
        """{"mlp", "resnet"}
        Plain layers, or residual layers h + act(hW + b) of one common width after a linear projection.""",
    )
    dropout_rate: float = parameter(
        0.0,
        [Interval(Real, 0, 1, closed="left")],
        """float in [0, 1)
        Share of the hidden units that each training step leaves out.""",
    )
    regularizer: str | None = parameter(
        "l2",
        [StrOptions({"l1", "l2", "elasticnet"}), None],
        """{"l1", "l2", "elasticnet"} or None
        Penalty on kernels (not biases). L1 is taken by a proximal step, so weights become exactly zero.""",
    )
    alpha: float = parameter(
        1e-5,
        [_NON_NEGATIVE],
        """float ≥ 0
        Strength of the regularizer: the loss, a weighted mean over rows on standardised data, gains
        ``alpha * (l1_ratio * |W|_1 + (1 - l1_ratio) / 2 * |W|_2^2)``.""",
    )
    l1_ratio: float = parameter(
        0.5,
        [Interval(Real, 0, 1, closed="both")],
        """float in [0, 1]
        Share of L1 for ``regularizer="elasticnet"``.""",
    )
    input_encoding: str | None = parameter(
        "auto",
        [StrOptions({"auto", *ENCODINGS}), None],
        """{"auto", "piecewise_linear", "periodic"} or None
        "piecewise_linear": beside each feature of more than two different values stands how far it has come through each of
        `n_bins` stretches between its quantiles (Gorishniy et al. 2022), so that steps and bends along one feature are found
        at once; a feature of two values (one-hot columns) needs none. "auto": so for regressors with hidden layers where at
        most 64 features have more than two values, else None; None for ``SNGPRegressor``, whose distances are those of the
        features, for a posterior of full covariance, and under an L1 penalty, which selects features. "periodic": beside each
        feature x of more than two different values stand sin(2πcx) and cos(2πcx) − 1 for `n_frequencies` frequencies c, which
        start as c ~ N(0, `frequency_scale`²) and are trained with the network (Gorishniy et al. 2022, "On Embeddings for
        Numerical Features in Tabular Deep Learning"), for smooth functions. None: the features alone.
        ``encoded_features_`` says which features were encoded.""",
    )
    n_bins: int = parameter(
        32,
        [_AT_LEAST_ONE],
        """int ≥ 1
        Stretches of each encoded feature (`input_encoding`); a feature of few different values has fewer.""",
    )
    n_frequencies: int = parameter(
        16,
        [_AT_LEAST_ONE],
        """int ≥ 1
        Learned frequencies of each encoded feature where ``input_encoding="periodic"``.""",
    )
    frequency_scale: float = parameter(
        0.05,
        [_POSITIVE],
        """float > 0
        Standard deviation of the frequencies at which training starts, in periods for each standard deviation of a feature,
        where ``input_encoding="periodic"``: small for smooth functions, large for functions that change fast.""",
    )
    batch_size: int | str = parameter(
        "auto",
        [StrOptions({"auto"}), _AT_LEAST_ONE],
        """int or "auto"
        Rows of a training step. "auto": about a tenth of the rows, between 32 and 256; up to 4096, all of them, for a
        linear model.""",
    )
    learning_rate: str = parameter(
        "one_cycle",
        [StrOptions({"one_cycle", "constant"})],
        """{"one_cycle", "constant"}
        Warm-up and cosine decay to zero over ``max_iter`` epochs, or a constant rate.""",
    )
    learning_rate_init: float | str = parameter(
        "auto",
        [StrOptions({"auto"}), _POSITIVE],
        """float > 0 or "auto"
        The constant rate of Adam, or the highest of the one-cycle rate. "auto": 0.02; 0.01 for ``SNGPRegressor``, 0.003 for
        an ``SNGPClassifier`` of more features than units or with a trained projection, 0.05 for a linear model.""",
    )
    max_iter: int | None = parameter(
        None,
        [_AT_LEAST_ONE, None],
        """int or None
        Epochs. None: as many as make about 200 n^0.45 steps, between 500 and 4000, but at least 5 epochs; twice as many for
        regressors without encoding of the inputs (not ``BNNRegressor`` and ``SNGPRegressor``); a fifth for an
        ``SNGPClassifier`` of no more features than units, unless its projection is trained; 4000 for a linear model.""",
    )
    shuffle: bool = parameter(
        True,
        ["boolean"],
        """bool
        Whether to shuffle the rows each epoch.""",
    )
    early_stopping: bool | str = parameter(
        "auto",
        ["boolean", StrOptions({"auto", "cross_fit"})],
        """bool, "cross_fit" or "auto"
        False: train to the end. True: hold out `validation_fraction` of the rows, keep the running mean of the weights
        that predicts them best. "cross_fit": sibling networks that each hold out another fold say when to stop and how
        large the noise is, and the network itself trains on all rows. "auto": the method's own choice.""",
    )
    validation_fraction: float = parameter(
        0.1,
        [Interval(Real, 0, 1, closed="neither")],
        """float in (0, 1)
        Share of the rows that a network (or sibling) holds out, as one of round(1 / share) equal folds, at least two.""",
    )
    n_iter_no_change: int | None = parameter(
        None,
        [_AT_LEAST_ONE, None],
        """int or None
        Epochs without improvement by `tol` after which training stops. None: 60 % of the epochs.""",
    )
    tol: float = parameter(
        1e-4,
        [_NON_NEGATIVE],
        """float ≥ 0
        Smallest change of the loss, in nats, that counts as an improvement.""",
    )
    standardize: bool = parameter(
        True,
        ["boolean"],
        """bool
        Whether to standardise X, and y where the likelihood has a location and a scale. (Gamma and counts are always
        described as multiples of their mean.) All results are in y's own units either way.""",
    )
    warm_start: bool = parameter(
        False,
        ["boolean"],
        """bool
        Whether ``fit`` continues from the weights of the fit before.""",
    )
    backend: str = parameter(
        "auto",
        [StrOptions({"auto", *backends.BACKENDS})],
        """{"auto", "tensorflow", "blitz"}
        Library that trains: TensorFlow, or PyTorch with BLiTZ. "auto" takes the first that is installed, in this
        order.""",
    )
    device: str = parameter(
        "cpu",
        [StrOptions({"cpu", "cuda"})],
        """{"cpu", "cuda"}
        Where training runs.""",
    )
    random_state: object = parameter(
        None,
        ["random_state"],
        """int, RandomState instance or None
        Seed of weights, shuffles, held-out rows and draws. An int makes ``fit`` repeatable.""",
    )
    verbose: bool = parameter(
        False,
        ["verbose"],
        """bool
        Whether to show a progress bar.""",
    )

    # What early_stopping="auto" stands for (linear models always train to the end), and the siblings of "cross_fit".
    _auto_early_stopping: ClassVar[bool | str] = "cross_fit"
    _n_siblings = 5
    # What learning_rate_init="auto" stands for; a linear model's loss is convex and takes a higher rate.
    _auto_learning_rate = 0.02
    # Steps of max_iter=None for each n^0.45 rows.
    _auto_steps = 200
    # Shares of their spread among which held-out rows choose that of the draws.
    _spreads: ClassVar[tuple] = (1.0,)
    # Names of parameters that prediction reads.
    _predicts_with: ClassVar[tuple] = ()

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None):
        """Fit the model.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Training rows.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Targets.
        sample_weight : array-like of shape (n_samples,), optional
            Weights ≥ 0; a row of weight 2 counts as two equal rows.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If the input is not valid; what was fitted before is kept.
        ImportError
            If the backend is not installed.
        """
        with callbacks(self) as context:
            before = dict(vars(self))
            try:
                self._fit(X, y, sample_weight, context)
            except BaseException:
                vars(self).clear()
                vars(self).update(before)
                raise
        return self

    def _validate_params(self):
        check_backend_name(self.backend, type(self).__name__)
        super()._validate_params()

    def _fit(self, X, y, sample_weight, context):
        previous = getattr(self, "_state", None) if self.warm_start else None
        form_before = self._form_of_data()
        sizes = self._hidden_sizes()
        check_columns(X)
        X, y = validate_data(
            self,
            X,
            y,
            accept_sparse="csr",
            dtype=[np.float64, np.float32],
            multi_output=True,
            ensure_min_samples=2,
        )
        if sparse.issparse(X):
            X = canonical_csr(X)
        weight = check_weights(sample_weight, X)
        y = self._check_target(y, weight)
        exposure = self._exposure(X, weight)
        if previous is not None and self._form_of_data() != form_before:
            raise ValueError(
                f"warm_start=True continues from the fit before, so the data must keep their form: expected {form_before}, "
                f"got {self._form_of_data()}. Set warm_start=False to start anew."
            )
        backend = backends.resolve(self.backend)
        index, weight = canonical_rows(X, y, weight)
        X, y = X[index], y[index]
        exposure = None if exposure is None else exposure[index]
        copies = count_copies(X, y, weight)
        if previous is not None and not self._continues(previous):
            previous = None
        seeds = self._seeds()
        plan = self._plan_calibration(y, weight, copies, seeds["calibration"], previous)
        own, own_weight, own_copies = slice(None), weight, copies
        if plan is not None:
            own, own_weight, own_copies = plan.own.rows, plan.own.weights(weight), plan.own_copies
        target = self._encode_target(y[own], own_weight, previous, None if exposure is None else exposure[own])
        problem = self._pose(X[own], own_weight, own_copies, target, sizes, seeds, previous)
        members, outcome = self._train(backend, problem, previous, context)
        trained = self._refine(problem, members, outcome.parameters)
        noise_scale, spread = self._fit_to_held_out(problem, members, trained)
        noise_limit = self._noise_limit(problem, members, trained, noise_scale, spread)
        self.backend_ = backend
        self.n_iter_ = outcome.n_epochs
        self.loss_curve_ = outcome.losses
        self.loss_ = outcome.losses[-1] if outcome.losses else np.nan  # interrupted before the first step
        self.validation_loss_curve_ = outcome.held_out_losses or None
        self._finish(problem, noise_scale, spread, trained[members.kept])
        self._state = replace(self._state, noise_limit=noise_limit)
        if plan is not None:
            self._calibrate(X, y, weight, plan, previous)
        self._report_weights()

    def _seeds(self) -> dict:
        """Independent seed sequences of this fit, by what they are for."""
        names = ("members", "trainer", "folds", "features", "draws", "calibration")
        children = np.random.SeedSequence(seed_entropy(self.random_state)).spawn(len(names))
        return dict(zip(names, children, strict=True))

    def _plan_calibration(self, y, weight, copies, seed, previous):
        """Which rows to hold out for calibration, if it is wanted."""
        if self.calibration is None:
            return None
        before = None if previous is None else previous.calibration
        return plan_calibration(weight, copies, self._strata(y), int(seed.generate_state(1)[0]), before)

    def _calibrate(self, X, y, weight, plan, previous):
        before = None if previous is None else previous.calibration
        shift = self._log_class_weight(y, weight)
        calibration = calibrate(self, X, self._training_target(y), weight, plan, before, shift)
        self._state = replace(self._state, calibration=calibration)

    def _continues(self, previous: State) -> bool:
        """Whether the units of an earlier fit, in which its weights speak, are those of this one."""
        return previous.standardized == self.standardize

    def _form_of_data(self) -> dict:
        """Features, classes and outputs, as fitted attributes have them."""
        names = ("n_features_in_", "classes_", "n_outputs_")
        return {name: np.asarray(getattr(self, name)).tolist() for name in names if hasattr(self, name)}

    def _hidden_sizes(self) -> tuple[int, ...]:
        given = np.atleast_1d(np.asarray(self.hidden_layer_sizes, dtype=float)).ravel()
        sizes = tuple(int(size) for size in given)
        if any(size < 1 for size in sizes) or any(given != sizes):
            raise ValueError(f"hidden_layer_sizes must be integers ≥ 1, got {self.hidden_layer_sizes!r}.")
        if self.architecture == "resnet" and len(set(sizes)) > 1:
            raise ValueError(
                f"architecture='resnet' adds each layer to the one before, so all hidden layers need one width, got "
                f"hidden_layer_sizes={self.hidden_layer_sizes!r}. Use equal sizes, or architecture='mlp'."
            )
        return sizes

    def _pose(self, X, weight, copies, target, sizes, seeds, previous) -> Problem:
        """Standardise the rows and write down the network and the seeds."""
        if previous is not None:
            x_standardizer = previous.x_standardizer
        elif self.standardize:
            x_standardizer = Standardizer.fit(X, weight).without_constants()
        else:
            x_standardizer = Standardizer.identity(X.shape[1])
        exposure = self._exposure_column(target.likelihood)
        if exposure is not None:
            x_standardizer = x_standardizer.without_column(exposure)
        several = many_valued(X)
        if exposure is not None:
            several[exposure] = False
        encoding = self._encoding_of(several, sizes, previous)
        network = self._network(X.shape[1], encoding, sizes, target.head)
        scaled = x_standardizer.rows(X)
        # Weights that are trained further belong to the random features they were trained on.
        kept = previous is not None and previous.network == network
        features = previous.draws.features if kept else self._features(network, seeds["features"])
        if not kept:
            features = {**features, **encoding.fit(scaled, weight)}
        rows = Rows(scaled, target.y, target.weight, copies)
        is_table = int(several.sum()) <= MAX_ENCODED
        return Problem(network, rows, target, x_standardizer, seeds, features, encoding, is_table)

    def _encodes(self) -> bool:
        """Whether ``input_encoding="auto"`` may encode."""
        return False

    def _encoding_of(self, several, sizes, previous) -> Encoding:
        """Which features are encoded, by how many bins, given which have more than two values."""
        auto = self.input_encoding == "auto"
        if self.input_encoding in ENCODINGS and not sizes:
            raise ValueError(
                f"input_encoding={self.input_encoding!r} needs hidden layers, got hidden_layer_sizes=(). Use input_encoding=None."
            )
        wanted = self._encodes() and not self._l1 and bool(sizes) if auto else self.input_encoding is not None
        name = "piecewise_linear" if auto else str(self.input_encoding)
        kind = ENCODINGS[name].from_parameters(self.get_params(deep=False)) if wanted else None
        asked = (self.input_encoding, kind)
        before = None if previous is None else previous.encoding
        # Weights that are trained further belong to the features that were encoded when training began.
        if before is not None and before.asked == asked:
            return before
        if before is not None and kind is not None and before.is_like(kind):
            return replace(before, asked=asked)
        return Encoding.of(asked, None if auto and several.sum() > MAX_ENCODED else kind, several)

    def _network(self, n_features, encoding, sizes, head) -> Network:
        return Network(
            n_features,
            sizes,
            self.activation,
            self.architecture,
            head,
            encoding=encoding.kind,
        )

    def _train(self, backend, problem: Problem, previous, context):
        """Train all networks, siblings too, and return them with their best parameters."""
        rows, network = problem.rows, problem.network
        n_rows = len(rows.weight)
        members = plan_members(
            self._n_networks(),
            self._early_stopping(problem),
            self.validation_fraction,
            rows,
            problem.target.strata,
            np.random.default_rng(problem.seeds["folds"]),
            n_siblings=0 if self._members_hold_out else self._n_siblings,
        )
        rngs = [np.random.default_rng(seed) for seed in problem.seeds["members"].spawn(members.count)]
        job = Job(
            backend,
            self.device,
            self._program(network),
            self._knobs(problem),
            problem.features,
            rows,
            problem.target,
            members,
            max(len(part) for part in members.training),
            self._schedule(n_rows, network),
            self._starting_parameters(problem, rngs, previous),
            rngs,
            int(problem.seeds["trainer"].generate_state(1)[0]),
        )
        groups = group_members(members.count, self._jobs())
        if len(groups) > 1:
            outcome = train_in_groups(job, groups, bool(self.verbose))
        else:
            with watched(self, context, job.schedule.n_epochs) as progress:
                outcome = train_group(job, progress)
        report(outcome, stacklevel=3)  # at fit
        return members, outcome

    def _early_stopping(self, problem: Problem) -> bool | str:
        """What `early_stopping` stands for."""
        if self.early_stopping != "auto":
            return self.early_stopping
        return self._auto_early_stopping if self._hidden_sizes() else False

    def _pace(self, network) -> tuple[float, int]:
        """Rate of ``learning_rate_init="auto"``, and steps of ``max_iter=None`` for each n^0.45 rows."""
        # Bins already encode steps, so fewer updates suffice.
        steps = min(self._auto_steps, ENCODED_STEPS) if network.encoding is not None else self._auto_steps
        return self._auto_learning_rate, steps

    def _schedule(self, n_rows, network) -> Schedule:
        linear = not self._hidden_sizes()
        if self.batch_size != "auto":
            batch_size = min(int(self.batch_size), n_rows)
        elif linear:
            batch_size = min(n_rows, 4096)
        else:
            batch_size = min(n_rows, int(np.clip(2 ** round(np.log2(max(n_rows, 1) / 10)), 32, 256)))
        rate, pace = self._pace(network)
        n_epochs = self.max_iter
        if n_epochs is None:
            steps = 4000 if linear else np.clip(pace * n_rows**0.45, 2.5 * pace, 20 * pace)
            n_epochs = max(5, round(steps / -(-n_rows // batch_size)))
        patience = self.n_iter_no_change or max(10, int(0.6 * n_epochs))
        if not isinstance(self.learning_rate_init, str):
            rate = float(self.learning_rate_init)
        elif linear:
            rate = 0.05
        watched = 0.0 if self._members_hold_out else WATCHED
        return Schedule(n_epochs, batch_size, rate, self.learning_rate, self.shuffle, self.tol, patience, watched)

    def _knobs(self, problem: Problem) -> Knobs:
        share = {None: 0.0, "l1": 1.0, "l2": 0.0, "elasticnet": self.l1_ratio}[self.regularizer]
        alpha = self.alpha if self.regularizer else 0.0
        target = problem.target
        return Knobs(
            l1=alpha * share,
            l2=alpha * (1 - share),
            dropout_rate=self.dropout_rate,
            beta=target.likelihood.loss_beta if target.likelihood else 0.0,
            fixed=target.fixed,
        )

    @property
    def _l1(self) -> bool:
        return self.regularizer in ("l1", "elasticnet")

    # What a task overrides.

    def _exposure(self, X, weight):
        """What each row's counts were gathered over, (n_rows,), or None."""
        return None

    def _exposure_column(self, likelihood) -> int | None:
        """Position of the column of X that is no feature but what counts were gathered over."""
        return None

    def _by_position(self) -> dict:
        """Parameters with which a copy of this estimator fits an array as it fits a frame with names."""
        return {}

    # What a method overrides.

    _members_hold_out = False

    def _n_networks(self) -> int:
        return 1

    def _jobs(self) -> int | None:
        """Processes to train in; more than one only where no network is another's sibling."""
        return None

    def _program(self, network: Network) -> Program:
        return Program(network, dropout=self.dropout_rate > 0, l1=self._l1)

    def _features(self, network: Network, seed) -> dict:
        """Fixed random features of a network, drawn from `seed`."""
        return {}

    def _mean_weights(self, network, parameters) -> np.ndarray:
        """Weights (n_members, n_weights) that stand for trained parameters."""
        return self._program(network).mean_weights(parameters)

    def _starting_parameters(self, problem: Problem, rngs, previous) -> np.ndarray:
        """Parameters (n_members, n_parameters) at which training starts."""
        network = problem.network
        n_parameters = self._program(network).n_parameters
        if previous is not None and previous.network == network and previous.parameters.shape[1] == n_parameters:
            return np.resize(previous.parameters, (len(rngs), previous.parameters.shape[1]))
        raw_bias, constants = problem.target.marginal_fit()
        return np.stack([network.initial_weights(rng, raw_bias, constants) for rng in rngs])

    def _refine(self, problem: Problem, members: Members, parameters) -> np.ndarray:
        """Parameters of all networks, made better where a method knows how without another step of training."""
        return parameters

    def _fit_to_held_out(self, problem: Problem, members: Members, parameters) -> tuple[np.ndarray, float]:
        """Factor of the learned noise, (1, 1, n_outputs), and share of the draws' spread, that held-out rows ask for."""
        raise NotImplementedError

    def _noise_limit(self, problem: Problem, members: Members, parameters, noise_scale, spread) -> np.ndarray:
        """Largest noise scale, (1, 1, n_outputs), that held-out rows support."""
        return np.full((1, 1, 1), np.inf)

    def _draws(self, problem: Problem, parameters, spread=1.0) -> Draws:
        """The functions that trained parameters (n_networks, n_parameters) stand for, at a share of their spread."""
        return Draws(problem.network, self._mean_weights(problem.network, parameters), problem.features)

    def _finish(self, problem: Problem, noise_scale, spread, parameters) -> None:
        """Set the fitted state from the trained parameters."""
        self._set_state(problem, noise_scale, parameters, self._draws(problem, parameters, spread), spread=spread)

    def _set_state(self, problem: Problem, noise_scale, parameters, draws: Draws, extra=None, spread=1.0) -> None:
        target = problem.target
        self._state = State(
            problem.network,
            parameters,
            draws,
            problem.x_standardizer,
            target.standardizer,
            target.likelihood,
            target.head,
            target.fixed,
            noise_scale,
            standardized=self.standardize,
            settings={name: getattr(self, name) for name in self._predicts_with},
            extra=extra,
            dropout_rate=self.dropout_rate * spread,
            encoding=problem.encoding,
        )

    def _report_weights(self) -> None:
        """Fitted attributes about the weights: sparsity, and coefficients of a linear model."""
        state = self._state
        network = state.network
        weights = self._mean_weights(network, state.parameters)
        self.n_nonzero_weights_ = int(np.count_nonzero(weights * network.kernel_mask))
        views = network.views(weights)
        first = views[network.input_kernel.name]
        on_random_features = bool(network.n_inducing) and not network.hidden_layer_sizes
        if on_random_features:
            used = np.ones(network.n_features, bool)
        else:
            used = np.any(first != 0, axis=(0, 2))
            used, parts = used[: network.n_features], used[network.n_features :]
            if network.n_encoded:
                used[state.encoding.features] |= parts.reshape(network.n_encoded, -1).any(axis=1)
        exposure = self._exposure_column(state.likelihood)
        if exposure is not None:
            used[exposure] = False
        self.selected_features_ = used
        self.encoded_features_ = state.encoding.features.copy()
        for name in ("coef_", "intercept_"):
            self.__dict__.pop(name, None)  # of a linear model fitted before
        if not network.hidden_layer_sizes and not network.n_inducing:
            kernel, bias = (views[tensor.name].mean(axis=0).T.astype(float) for tensor in network.layers[-1])
            self._set_coefficients(kernel[: state.head.n_outputs], bias[: state.head.n_outputs])

    def _set_coefficients(self, kernel, bias):
        state = self._state
        x, y = state.x_standardizer, state.y_standardizer
        if state.likelihood is not None and state.likelihood.target_transform in ("divide", "count"):
            # log mean = log of y's unit + raw output
            slope, offset = np.ones_like(y.scale), np.log(y.scale)
        else:
            slope, offset = y.scale, y.shift
        coef = kernel / x.scale * slope[:, None]
        intercept = offset + slope * bias - coef @ x.shift
        self.coef_, self.intercept_ = self._coefficient_shapes(coef, intercept)

    # Shared by the predictions of both tasks.

    def _check_rows(self, X):
        check_is_fitted(self)
        check_columns(X)
        return validate_data(self, X, accept_sparse="csr", dtype=[np.float64, np.float32], reset=False)

    def _fitted_conformal(self):
        """Scores of held-out rows from which intervals or sets are made, or None where they are the model's own."""
        check_is_fitted(self)
        return self._state.calibration.conformal

    def _chunks(self, X):
        """Standardised stretches of rows, as sparse as they came, each small enough that all draws of it fit in memory."""
        state = self._state
        per_row = self._n_draws() * max(state.head.n_raw, 1)
        n_rows = max(256, (2**21 // per_row) // 256 * 256)
        for start in range(0, X.shape[0], n_rows):
            yield state.x_standardizer.rows(X[start : start + n_rows])

    def _n_draws(self) -> int:
        return self._state.draws.n_draws

    def _call_draws(self) -> Draws:
        # A copy, so that what a call keeps dies with it and the estimator stays as fitted.
        return replace(self._state.draws)

    def to_native(self):
        """Return the fitted model in its backend's own layers.

        Returns
        -------
        tf_keras.Model or torch.nn.Module, or a list of them
            Takes X in the user's units; gives the distribution of y (regressors) or logits (classifiers). A list for an
            ensemble.

        See Also
        --------
        from_native : Read a native model back.
        """
        check_is_fitted(self)
        return backends.load(self.backend_).to_native(self._export())

    def from_native(self, model):
        """Take over the weights of a native model, such as one from :meth:`to_native` that was trained further.

        Parameters
        ----------
        model : as returned by :meth:`to_native`

        Returns
        -------
        self : object
            This estimator with the model's weights. A temperature stays as it was fitted.

        Raises
        ------
        ValueError
            If conformal intervals or sets were calibrated for the weights of ``fit``.
        """
        check_is_fitted(self)
        if self._state.calibration.conformal is not None:
            raise ValueError(
                "The conformal calibration of this estimator holds for the weights of fit, not for others. Fit with "
                "calibration=None, read the weights back, and calibrate on rows kept apart: "
                "skuq.calibration.Conformal…(estimator, cv='prefit')."
            )
        exported = backends.load(self.backend_).from_native(model, self._export())
        self._import(exported)
        self._report_weights()
        return self

    def _export(self) -> Fitted:
        state = self._state
        return Fitted(
            network=state.network,
            weights=state.parameters,
            fixed=state.fixed,
            x_shift=state.x_standardizer.shift,
            x_scale=state.x_standardizer.scale,
            y_shift=state.y_standardizer.shift,
            y_scale=state.y_standardizer.scale,
            noise_scale=state.noise_scale[:, 0],
            noise_limit=state.noise_limit[0, 0],
            log_target=state.likelihood is not None and state.likelihood.target_transform == "log",
            dropout_rate=state.dropout_rate,
            features=state.draws.features,
            temperature=state.calibration.temperature,
            log_class_weight=state.calibration.log_class_weight,
            exposure=self._exposure_column(state.likelihood),
        )

    def _import(self, fitted: Fitted) -> None:
        draws = replace(self._state.draws, weights=fitted.weights)
        self._state = replace(self._state, parameters=fitted.weights, draws=draws)


def check_weights(sample_weight, X) -> np.ndarray:
    """Weights of the rows, ≥ 0 and not all zero, float64."""
    weight = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
    if not np.any(weight > 0):
        raise ValueError("Sample weights must contain at least one non-zero number; all weights are zero.")
    return weight


def seed_entropy(random_state):
    """Entropy for a SeedSequence: the seed itself, a number from the caller's generator, or the system's."""
    if random_state is None:
        return None
    if isinstance(random_state, Integral):
        return int(random_state)
    return int(random_state.randint(2**31 - 1))
