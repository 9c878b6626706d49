"""What "auto" and None stand for: the table is what the documentation says, and what a fit does."""

from pathlib import Path

import numpy as np
import pytest
from _table import ESTIMATORS, problem

import skuq
from skuq._estimator import auto
from skuq._estimator.common import CommonParameters
from skuq._training import jobs

DEFAULTS = Path(__file__).parents[1] / "docs" / "defaults.rst"


def test_the_table_of_the_documentation_is_the_table():
    """Where it is not, put what ``skuq._estimator.auto.as_rst()`` returns in place of it."""
    assert auto.as_rst() in DEFAULTS.read_text()


def test_the_table_has_a_row_for_each_estimator():
    assert sorted(auto.AUTO) == sorted(ESTIMATORS)
    for name in ESTIMATORS:
        assert getattr(skuq, name)._auto is auto.AUTO[name]


@pytest.mark.parametrize("name", ESTIMATORS)
def test_docstrings_say_what_the_table_says(name):
    words = " ".join(getattr(skuq, name).__doc__.split())
    for parameter, sentence in auto.sentences(auto.AUTO[name]).items():
        asked = "None" if parameter in ("max_iter", "n_iter_no_change") else '"auto"'
        assert f"{asked}: {sentence}." in words, parameter
    assert "{auto}" not in words


def test_shared_parameters_name_no_estimator():
    """What holds for one method alone stands in its own documentation."""
    for name, f in CommonParameters.__dataclass_fields__.items():
        assert not any(estimator in f.metadata["doc"] for estimator in ESTIMATORS), name


@pytest.fixture
def job(monkeypatch):
    """What a fit with nothing but defaults would train, by estimator, X and y."""

    class Seen(Exception):
        pass

    def spy(job, *args):
        raise Seen(job)

    def of(name, X, y, **settings):
        with pytest.raises(Seen) as caught:
            getattr(skuq, name)(random_state=0, **settings).fit(X, y)
        return caught.value.args[0]

    monkeypatch.setattr("skuq._estimator.base.train_group", spy)
    assert jobs.train_group is not spy
    return of


@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_fit_trains_as_the_table_says(name, job):
    X, y = problem(name)
    row, seen = auto.AUTO[name], job(name, X, y)
    n_rows = len(np.unique(np.c_[X, np.unique(y, return_inverse=True)[1]], axis=0))
    trained = (
        row.trained_projection if row.trained_projection and not seen.program.network.frozen_projection else row.pace
    )
    steps = min(trained.steps, auto.ENCODED_STEPS) if row.encodes else trained.steps
    assert seen.schedule.batch_size == 32
    assert seen.schedule.learning_rate_init == trained.rate
    assert seen.schedule.n_epochs == round(steps * n_rows**0.45 / 3)
    assert seen.schedule.patience == int(0.6 * seen.schedule.n_epochs)
    assert seen.schedule.watched == (0 if name.startswith("DeepEnsemble") else 0.1)
    assert (seen.program.network.encoding is not None) == row.encodes
    siblings = row.n_siblings if row.early_stopping == "cross_fit" else 0
    own = 10 if name.startswith("DeepEnsemble") else 1
    assert seen.members.count == siblings + own
    assert seen.members.holds_out


@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_linear_model_trains_to_the_end_at_a_higher_rate(name, job):
    X, y = problem(name)
    seen = job(name, X, y, hidden_layer_sizes=())
    assert not seen.members.holds_out
    assert (seen.schedule.learning_rate_init, seen.schedule.n_epochs) == (0.05, 4000)
    assert seen.schedule.batch_size == len(seen.rows.weight)


def test_an_sngp_classifier_holds_nothing_out_where_there_is_no_noise_to_fit(job):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(100, 65)), rng.integers(2, size=100)
    assert not job("SNGPClassifier", X, y).members.holds_out
    assert job("SNGPClassifier", X[:, :64], y).members.holds_out
    few = np.repeat(np.arange(4), 50)
    assert not job("SNGPClassifier", few[:, None], np.tile([0, 1], 100)).members.holds_out


@pytest.mark.parametrize(
    ("n_rows", "expected"), [(20, 20), (100, 32), (400, 32), (1000, 128), (3000, 256), (10**6, 256)]
)
def test_batches_are_a_tenth_of_the_rows_within_limits(n_rows, expected):
    assert auto.batch_size_of("auto", n_rows, linear=False) == expected
    assert auto.batch_size_of("auto", n_rows, linear=True) == min(n_rows, 4096)
    assert auto.batch_size_of(50, n_rows, linear=False) == min(n_rows, 50)
