"""The ladder of ``fit`` that all ten estimators share."""

import warnings
from dataclasses import replace
from typing import Any, Self

import numpy as np
from scipy import sparse
from sklearn.base import BaseEstimator, _fit_context
from sklearn.utils.validation import check_is_fitted, validate_data

from .. import backends
from .._data.encoding import many_valued
from .._data.folds import count_copies
from .._data.rows import Standardizer, canonical_csr, canonical_rows
from .._training.interruption import is_one_of_many
from .._training.jobs import Job, group_members, report, train_group, train_in_groups
from .._training.loop import Outcome, Rows
from .._training.members import Members, plan_members
from .._training.progress import CallbackSupportMixin, callbacks, watched
from .._validation import check_columns, check_hidden_sizes, check_weights, seeds_of_fit
from . import native
from .auto import early_stopping_of, encoding_of, is_a_table, schedule_of
from .contract import Contract
from .parameters import estimator
from .reports import linear_coefficients, n_nonzero_weights, selected_features
from .self_calibration import Plan, calibrate, plan_calibration
from .state import Problem, State, Target
from .targets import TargetReader


@estimator
class Estimator(CallbackSupportMixin, Contract, BaseEstimator):
    """Base of the ten: the ladder of ``fit``, and what all answers share."""

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
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
                self.__dict__.clear()
                self.__dict__.update(before)
                raise
        return self

    def _validate_params(self) -> None:
        backends.check_name(self.backend, type(self).__name__)
        super()._validate_params()

    def _fit(self, X: Any, y: Any, sample_weight: Any, context: Any) -> None:
        previous: State | None = getattr(self, "_state", None) if self.warm_start else None
        form_before = self._form_of_data()
        sizes = check_hidden_sizes(self.hidden_layer_sizes, self.architecture)
        X, y, weight = self._validated(X, y, sample_weight)
        reader, y = self._read_target(y, weight)
        exposure = reader.exposures(X, weight)
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
        if previous is not None and not (
            previous.standardized == self.standardize and reader.continues(previous.output)
        ):
            previous = None  # its weights speak in other units
        seeds = seeds_of_fit(self.random_state)
        plan = self._plan_calibration(reader.strata(y), weight, copies, seeds["calibration"], previous)
        own: Any = slice(None)
        own_weight, own_copies = weight, copies
        if plan is not None:
            own, own_weight, own_copies = plan.own.rows, plan.own.weights(weight), plan.own_copies
        target = reader.target(
            y[own],
            own_weight,
            None if exposure is None else exposure[own],
            before=None if previous is None else previous.output,
            standardize=self.standardize,
        )
        problem = self._pose(X[own], own_weight, own_copies, target, sizes, seeds, previous)
        members, outcome = self._train(backend, problem, previous, context)
        trained = self._refine(problem, members, outcome.parameters)
        noise, spread = self._fit_noise(problem, members, trained)
        self._state = State(
            posterior=self._finish(problem, trained[members.kept], spread),
            output=target.output,
            x_standardizer=problem.x_standardizer,
            noise=noise,
            encoding=problem.encoding,
            standardized=self.standardize,
        )
        self.backend_ = backend
        if plan is not None:
            self._state = self._calibrated(X, y, weight, plan, reader, previous, outcome)
        self._report_training(outcome)
        self._report_weights()

    def _validated(self, X: Any, y: Any, sample_weight: Any) -> tuple[Any, np.ndarray, np.ndarray]:
        check_columns(X)
        X, y = validate_data(
            self, X, y, accept_sparse="csr", dtype=[np.float64, np.float32], multi_output=True, ensure_min_samples=2
        )
        X = canonical_csr(X) if sparse.issparse(X) else X
        return X, y, check_weights(sample_weight, X)

    def _plan_calibration(
        self,
        strata: np.ndarray | None,
        weight: np.ndarray,
        copies: np.ndarray,
        seed: np.random.SeedSequence,
        previous: State | None,
    ) -> Plan | None:
        """Which rows to hold out for calibration, if it is wanted."""
        if self.calibration is None:
            return None
        before = None if previous is None else previous.calibration
        return plan_calibration(weight, copies, strata, int(seed.generate_state(1)[0]), before)

    def _calibrated(
        self,
        X: Any,
        y: np.ndarray,
        weight: np.ndarray,
        plan: Plan,
        reader: TargetReader,
        previous: State | None,
        outcome: Outcome,
    ) -> State:
        """The state of this fit with what held-out rows say of it; on Ctrl-C without, and a warning says so."""
        try:
            if outcome.interrupted:
                raise KeyboardInterrupt
            calibration = calibrate(
                self,
                X,
                reader.given(y),
                weight,
                plan,
                None if previous is None else previous.calibration,
                log_class_weight=reader.log_class_weight(),
                settings=reader.settings_of_arrays(),
            )
        except KeyboardInterrupt:
            if is_one_of_many():
                raise
            text = (
                f"Interrupted by user before calibration={self.calibration!r} was done: the model is kept, and its answers are "
                f"not calibrated. Fit again for calibrated ones."
            )
            warnings.warn(text, UserWarning, stacklevel=4)  # at fit
            return self._state
        return replace(self._state, calibration=calibration)

    def _form_of_data(self) -> dict[str, Any]:
        """Features, classes and outputs, as fitted attributes have them."""
        names = ("n_features_in_", "classes_", "n_outputs_")
        return {name: np.asarray(getattr(self, name)).tolist() for name in names if hasattr(self, name)}

    def _pose(
        self,
        X: Any,
        weight: np.ndarray,
        copies: np.ndarray,
        target: Target,
        sizes: tuple[int, ...],
        seeds: dict[str, np.random.SeedSequence],
        previous: State | None,
    ) -> Problem:
        """Standardise the rows and write down the network and the seeds."""
        several, exposure = many_valued(X), target.output.exposure
        if previous is not None:
            x_standardizer = previous.x_standardizer
        elif self.standardize:
            x_standardizer = Standardizer.fit(X, weight)
            if self._auto.equal_gaps and sizes:
                x_standardizer = x_standardizer.with_equal_gaps(X, ~several & ~x_standardizer.constant)
            x_standardizer = x_standardizer.without_constants()
        else:
            x_standardizer = Standardizer.identity(X.shape[1])
        if exposure is not None:
            x_standardizer = x_standardizer.without_column(exposure)
            several[exposure] = False
        is_table = is_a_table(several)
        before, fits = None if previous is None else previous.encoding, self._may_encode(target.likelihood)
        parameters = {**self.get_params(deep=False), "smooth": self._auto.smooth}
        encoding = encoding_of(parameters, several, sizes, before, fits)
        network = self._network(X.shape[1], encoding, sizes, target.head, is_table)
        scaled = x_standardizer.rows(X)
        # Weights that are trained further belong to the random features they were trained on.
        if previous is not None and previous.network == network:
            features = previous.posterior.features
        else:
            features = {**self._features(network, seeds["features"]), **encoding.fit(scaled, weight)}
        return Problem(
            network=network,
            rows=Rows(scaled, target.y, target.weight, copies),
            target=target,
            x_standardizer=x_standardizer,
            seeds=seeds,
            features=features,
            encoding=encoding,
            is_table=is_table,
        )

    def _train(self, backend: str, problem: Problem, previous: State | None, context: Any) -> tuple[Members, Outcome]:
        """Train all networks, siblings too, and return them with their best parameters."""
        rows, network = problem.rows, problem.network
        members = plan_members(
            self._n_networks(),
            early_stopping_of(self.early_stopping, self._auto, network, rows.copies, problem.is_table),
            self.validation_fraction,
            rows,
            problem.target.strata,
            np.random.default_rng(problem.seeds["folds"]),
            n_siblings=self._auto.n_siblings,
        )
        rngs = [np.random.default_rng(seed) for seed in problem.seeds["members"].spawn(members.count)]
        job = Job(
            backend=backend,
            device=self.device,
            program=self._program(network),
            knobs=self._knobs(problem),
            features=problem.features,
            rows=rows,
            target=problem.target,
            members=members,
            epoch_rows=max(len(part) for part in members.training),
            schedule=schedule_of(self, self._auto, network, len(rows.weight)),
            start=self._starting_parameters(problem, rngs, previous),
            rngs=rngs,
            seed=int(problem.seeds["trainer"].generate_state(1)[0]),
        )
        groups = group_members(members.count, self._jobs())
        if len(groups) > 1:
            outcome = train_in_groups(job, groups, bool(self.verbose))
        else:
            with watched(self, context, job.schedule.n_epochs) as progress:
                outcome = train_group(job, progress)
        if outcome.interrupted and is_one_of_many():
            raise KeyboardInterrupt
        report(outcome, stacklevel=3)  # at fit
        return members, outcome

    # What a fit reports.

    def _report_training(self, outcome: Outcome) -> None:
        self.n_iter_ = outcome.n_epochs
        self.loss_curve_ = outcome.losses
        self.loss_ = outcome.losses[-1] if outcome.losses else np.nan  # interrupted before the first step
        self.validation_loss_curve_ = outcome.held_out_losses or None

    def _report_weights(self) -> None:
        """Fitted attributes about the weights: sparsity, and coefficients of a linear model."""
        state = self._state
        self.n_nonzero_weights_ = n_nonzero_weights(state)
        self.selected_features_ = selected_features(state)
        self.encoded_features_ = state.encoding.features.copy()
        for name in ("coef_", "intercept_"):
            self.__dict__.pop(name, None)  # of a linear model fitted before
        linear = linear_coefficients(state)
        if linear is not None:
            self.coef_, self.intercept_ = linear

    # Shared by the predictions of both tasks.

    def _fitted_state(self) -> State:
        check_is_fitted(self)
        return self._state

    def _check_rows(self, X: Any) -> Any:
        """Validated rows of a fitted estimator."""
        check_is_fitted(self)
        check_columns(X)
        return validate_data(self, X, accept_sparse="csr", dtype=[np.float64, np.float32], reset=False)

    def to_native(self) -> Any:
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
        return native.to_native(self._fitted_state(), self.backend_)

    def from_native(self, model: Any) -> Self:
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
        self._state = native.from_native(self._fitted_state(), model, self.backend_)
        self._report_weights()
        return self
