"""BLiTZ's example loop: BayesianLinear layers, `sample_elbo` with three samples, Adam, batches of 16 from a DataLoader.

After https://github.com/piEsposito/blitz-bayesian-deep-learning (README, "A simple example for regression"), with the
weight of the complexity cost that makes its loss the evidence lower bound a row.
"""

from itertools import pairwise

import numpy as np
import torch
from _rows import Data, Run
from blitz.modules import BayesianLinear
from blitz.utils import variational_estimator
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

N_DRAWS = 100
LEARNING_RATE = 0.01
# Networks this small gain nothing from a second thread, and where another process holds a core they wait for it: on two
# cores beside busy processes a step took 5 ms with one thread and some hundred with two.
torch.set_num_threads(1)
# A true mixture, and a posterior that starts wider than BLiTZ's σ = 0.001.
LAYER = {"prior_sigma_1": 0.4, "prior_sigma_2": 0.1, "prior_pi": 0.5, "posterior_rho_init": -4.0}


@variational_estimator
class BayesianNet(nn.Module):
    """Bayesian layers with relu between them."""

    def __init__(self, *sizes):
        super().__init__()
        self.layers = nn.ModuleList(BayesianLinear(n_in, n_out, **LAYER) for n_in, n_out in pairwise(sizes))

    def forward(self, x):
        for layer in self.layers[:-1]:
            x = torch.relu(layer(x))
        return self.layers[-1](x)


def fit(net, X, y, criterion, run: Run):
    """Train on tensors."""
    net.to(run.device)
    optimizer = torch.optim.Adam(net.parameters(), lr=LEARNING_RATE)
    loader = DataLoader(TensorDataset(X, y), batch_size=16, shuffle=True)
    for _ in range(run.epochs):
        for inputs, labels in loader:
            optimizer.zero_grad()
            loss = net.sample_elbo(
                inputs=inputs.to(run.device),
                labels=labels.to(run.device),
                criterion=criterion,
                sample_nbr=3,
                complexity_cost_weight=1 / len(X),
            )
            loss.backward()
            optimizer.step()
    return net


def fit_moons(data: Data, run: Run):
    torch.manual_seed(run.seed)
    scaler = StandardScaler().fit(data.X)
    X, y = torch.tensor(scaler.transform(data.X)).float(), torch.tensor(data.y)
    net = fit(BayesianNet(2, 15, 10, 2), X, y, nn.CrossEntropyLoss(), run)

    @torch.no_grad()
    def predict(X):
        X = torch.tensor(scaler.transform(X)).float().to(run.device)
        return torch.stack([torch.softmax(net(X), dim=1) for _ in range(N_DRAWS)]).mean(0).cpu().numpy()

    return predict


def fit_diabetes(data: Data, run: Run):
    """Squared error is, up to a constant, the normal log density of variance ½: the noise of the predictions."""
    torch.manual_seed(run.seed)
    scaler, shift, scale = StandardScaler().fit(data.X), data.y.mean(), data.y.std()
    X, y = torch.tensor(scaler.transform(data.X)).float(), torch.tensor((data.y - shift) / scale).float()[:, None]
    net = fit(BayesianNet(X.shape[1], 512, 1), X, y, nn.MSELoss(), run)

    @torch.no_grad()
    def predict(X):
        X = torch.tensor(scaler.transform(X)).float().to(run.device)
        loc = shift + scale * torch.stack([net(X)[:, 0] for _ in range(N_DRAWS)]).cpu().numpy()
        return loc, np.full_like(loc, scale * 0.5**0.5)

    return predict
