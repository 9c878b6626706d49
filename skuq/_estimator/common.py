"""The constructor parameters that all ten estimators have in common."""

from numbers import Integral, Real

from sklearn.utils._param_validation import Interval, StrOptions

from .._data.encoding import ENCODINGS
from .._model.network import ACTIVATIONS, ARCHITECTURES
from .parameters import estimator, parameter

POSITIVE = Interval(Real, 0, None, closed="neither")
NON_NEGATIVE = Interval(Real, 0, None, closed="left")
AT_LEAST_ONE = Interval(Integral, 1, None, closed="left")


@estimator
class CommonParameters:
    """Parameters in common; what ``{auto}`` stands for in their documentation is each estimator's own (``auto.AUTO``)."""

    hidden_layer_sizes: tuple[int, ...] = parameter(
        (64, 64),
        ["array-like", Interval(Integral, 1, None, closed="left")],
        """tuple of int
        Widths of the hidden layers; () is a linear model.""",
    )
    activation: str = parameter(
        "auto",
        [StrOptions({"auto", *ACTIVATIONS})],
        """{"auto", "identity", "relu", "tanh", "logistic", "silu", "gelu", "elu", "softplus"}
        Activation of the hidden layers. "auto": {auto}.""",
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
        [NON_NEGATIVE],
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
        at once; a feature of two values (one-hot columns) needs none. "periodic": beside each
        feature x of more than two different values stand sin(2πcx) and cos(2πcx) − 1 for `n_frequencies` frequencies c, which
        start as c ~ N(0, `frequency_scale`²) and are trained with the network (Gorishniy et al. 2022, "On Embeddings for
        Numerical Features in Tabular Deep Learning"), for smooth functions. None: the features alone. "auto": {auto}.
        ``encoded_features_`` says which features were encoded.""",
    )
    n_bins: int = parameter(
        32,
        [AT_LEAST_ONE],
        """int ≥ 1
        Stretches of each encoded feature (`input_encoding`); a feature of few different values has fewer.""",
    )
    n_frequencies: int = parameter(
        16,
        [AT_LEAST_ONE],
        """int ≥ 1
        Learned frequencies of each encoded feature where ``input_encoding="periodic"``.""",
    )
    frequency_scale: float = parameter(
        0.05,
        [POSITIVE],
        """float > 0
        Standard deviation of the frequencies at which training starts, in periods for each standard deviation of a feature,
        where ``input_encoding="periodic"``: small for smooth functions, large for functions that change fast.""",
    )
    batch_size: int | str = parameter(
        "auto",
        [StrOptions({"auto"}), AT_LEAST_ONE],
        """int or "auto"
        Rows of a training step. "auto": {auto}.""",
    )
    learning_rate: str = parameter(
        "one_cycle",
        [StrOptions({"one_cycle", "constant"})],
        """{"one_cycle", "constant"}
        Warm-up and cosine decay to zero over ``max_iter`` epochs, or a constant rate.""",
    )
    learning_rate_init: float | str = parameter(
        "auto",
        [StrOptions({"auto"}), POSITIVE],
        """float > 0 or "auto"
        The constant rate of Adam, or the highest of the one-cycle rate. "auto": {auto}.""",
    )
    max_iter: int | None = parameter(
        None,
        [AT_LEAST_ONE, None],
        """int or None
        Epochs. None: {auto}.""",
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
        large the noise is, and the network itself trains on all rows. "auto": {auto}.""",
    )
    validation_fraction: float = parameter(
        0.1,
        [Interval(Real, 0, 1, closed="neither")],
        """float in (0, 1)
        Share of the rows that a network (or sibling) holds out, as one of round(1 / share) equal folds, at least two.""",
    )
    n_iter_no_change: int | None = parameter(
        None,
        [AT_LEAST_ONE, None],
        """int or None
        Epochs without improvement by `tol` after which training stops. None: {auto}.""",
    )
    tol: float = parameter(
        1e-4,
        [NON_NEGATIVE],
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
        [str],
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
