"""Training on PyTorch: hand-derived gradients on preallocated buffers, all members and weight samples at once."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from operator import call
from typing import Any

import numpy as np
import torch

from ..._model.threads import single_blas_thread
from .. import _protocol
from .._protocol import Knobs, Program
from ._graph import Replayed
from ._losses import head_gradient, negative_log_likelihood
from ._optimizer import Adam, SpectralBound
from ._posterior import weight_sampler
from ._trunk import Trunk

# Below this many floating point operations a step, a second thread costs more than it gives, and far more where
# another process keeps the other core busy.
ONE_THREAD_FLOPS = 2e8
# Floats kept of the steps whose losses are evaluated together, and of random numbers generated ahead.
HISTORY_FLOATS, NOISE_FLOATS = 1 << 18, 1 << 16
MAX_STEPS_AHEAD = 64


class Trainer(_protocol.Trainer):
    """Trains the members of one program; see ``skuq/backends/_protocol.py``.

    Parameters
    ----------
    program : Program
    parameters : ndarray of shape (n_members, program.n_parameters), float32
        Where training starts; copied.
    features : dict of ndarray
        What `Network.fixed_shapes` lists.
    knobs : Knobs
    seed : int
        All randomness: weight samples, dropout masks, start of the power iteration.
    device : str, default="cpu"
    """

    def __init__(
        self,
        program: Program,
        parameters: np.ndarray,
        features: dict[str, np.ndarray],
        knobs: Knobs,
        seed: int,
        device: str = "cpu",
    ) -> None:
        self._device = check_device(device)
        self._program, self._knobs = program, knobs
        self._generator = torch.Generator(self._device).manual_seed(int(seed))
        with torch.no_grad(), no_autocast(self._device):
            self._parameters = self._tensor(parameters)
            self._gradient = torch.zeros_like(self._parameters)
            self._features = {name: self._tensor(array) for name, array in features.items()}
            self._fixed = self._tensor(knobs.fixed)
            self._mask = self._tensor(program.kernel_mask)
            self._frozen = [(tensor.start, tensor.stop) for tensor in program.network.frozen]
            self._optimizer = Adam(self._parameters, self._gradient, self._mask, knobs, program.l1)
            self._ridge = None
            if knobs.ridge and program.network.n_inducing:
                beta = slice(program.network.output_kernel.start, program.network.output_kernel.stop)
                self._ridge = self._gradient[:, beta], self._parameters[:, beta]
            self._spectral = None
            if program.spectral_norm:
                self._spectral = SpectralBound(
                    program.network, self._parameters, float(knobs.spec_norm_bound), self._generator
                )
            self._sampler = None
            if program.posterior:
                self._sampler = weight_sampler(program, self._parameters, self._gradient, knobs)
        self._n_rows: int | None = None
        self._step_noise: torch.Tensor | None = None

    def parameters(self) -> np.ndarray:
        """Return the present parameters, ndarray of shape (n_members, n_parameters), float32."""
        return self._parameters.cpu().numpy().copy()

    def drawn(self) -> dict[str, np.ndarray]:
        """Noise and masks of the last step, by name; see ``skuq/backends/_protocol.py``."""
        drawn: dict[str, np.ndarray] = {}
        if self._step_noise is not None:
            drawn["noise"] = self._step_noise.cpu().numpy().copy()
        if self._n_rows is not None and self._masks:
            leading = (len(self._parameters), self._n_samples)
            drawn["masks"] = torch.cat(self._masks, -1).unflatten(0, leading).cpu().numpy()
        return drawn

    @torch.no_grad()
    def load(self, parameters: np.ndarray) -> None:
        """Put parameters back and forget Adam's moments."""
        with no_autocast(self._device):
            self._parameters.copy_(self._tensor(parameters))
            self._optimizer.reset()
            if self._spectral:
                self._spectral.warm_up()

    @torch.no_grad()
    def run(self, X: np.ndarray, y: np.ndarray, weight: np.ndarray, learning_rate: np.ndarray) -> np.ndarray:
        """Take one step for each leading entry of the arrays.

        Parameters
        ----------
        X : ndarray of shape (n_steps, n_members, n_rows, n_features)
        y : ndarray of shape (n_steps, n_members, n_rows, n_targets)
        weight : ndarray of shape (n_steps, n_members, n_rows)
            Divided by the batch's number of rows; 0 for rows that pad a batch.
        learning_rate : ndarray of shape (n_steps,)

        Returns
        -------
        ndarray of shape (n_steps, n_members)
            Loss of each step's batch before the step.
        """
        with no_autocast(self._device):
            return self._run(X, y, weight, learning_rate)

    def _run(self, X: np.ndarray, y: np.ndarray, weight: np.ndarray, learning_rate: np.ndarray) -> np.ndarray:
        n_steps, n_members, n_rows, _ = np.shape(X)
        if n_rows != self._n_rows:
            self._allocate(n_rows)
        # An axis for the weight samples: (n_steps, n_members, 1, n_rows, ...).
        # Of the arrays only X may be large: it is not copied unless it must be.
        xs, ys, weights = (tensor.unsqueeze(2) for tensor in (self._shared(X), self._tensor(y), self._tensor(weight)))
        # A row of weight 0 gets a target inside the support, so it never makes a NaN.
        inside = ys.new_full((), self._program.network.head.padding_target)
        ys = torch.where(weights.unsqueeze(-1) > 0, ys, inside)
        batches = zip(
            xs.unbind(0),
            ys.unbind(0),
            (weights / self._n_samples).unsqueeze(-1).unbind(0),
            self._rates(learning_rate),
            strict=True,
        )
        losses = self._parameters.new_empty(n_steps, n_members)
        # What is not finite is found in the losses; NumPy need not say it too.
        with single_thread() if self._one_thread else nullcontext(), np.errstate(all="ignore"):
            start = 0
            for step, batch in enumerate(batches):
                self._step(step - start, *batch)
                if step - start + 1 == len(self._history["raw"]) or step == n_steps - 1:
                    done = slice(start, step + 1)
                    losses[done] = self._losses(ys[done], weights[done])
                    start = step + 1
        return losses.cpu().numpy()

    def _step(
        self, slot: int, x: torch.Tensor, y: torch.Tensor, row_weight: torch.Tensor, learning_rate: float | torch.Tensor
    ) -> None:
        noise = self._noise.next() if self._sampler else None
        bits = self._mask_bits.next() if self._mask_bits else None
        do_forward, do_backward = self._halves
        do_forward(self._forward, x, noise, bits)
        self._record(slot)
        do_backward(self._backward, y, row_weight, learning_rate)

    def _forward(self, x: torch.Tensor, noise: torch.Tensor | None, bits: torch.Tensor | None) -> None:
        """From a batch, and the random numbers of its step, to raw outputs."""
        self._step_noise = noise  # on a GPU the graph's own, which the other half reads too
        if self._sampler and noise is not None:
            self._sampler.draw(noise)
        if bits is not None:
            self._set_masks(bits)
        self._trunk.load(x)
        self._trunk.forward()

    def _backward(self, y: torch.Tensor, row_weight: torch.Tensor, learning_rate: float | torch.Tensor) -> None:
        """From the raw outputs to the next parameters."""
        self._head_gradient(y, row_weight)
        self._trunk.backward()
        if self._sampler and self._step_noise is not None:
            self._sampler.collect(self._step_noise)
        for start, stop in self._frozen:
            self._gradient[:, start:stop].zero_()
        if self._ridge:
            gradient, beta = self._ridge
            gradient.add_(beta, alpha=float(self._knobs.ridge))
        self._optimizer.step(learning_rate)
        if self._spectral:
            self._spectral.step()

    def _record(self, slot: int) -> None:
        """Keep what the loss of this step needs; losses are evaluated for many steps at once."""
        present = {
            "raw": self._raw,
            "parameters": self._parameters,
            "weights": self._sampler and self._sampler.weights,
            "noise": self._step_noise,
        }
        for name, slots in self._slots.items():
            slots[slot].copy_(present[name])

    def _losses(self, y: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Losses of the recorded steps, shape (n_steps, n_members)."""
        n_steps, network, knobs = len(y), self._program.network, self._knobs
        recorded = {name: steps[:n_steps] for name, steps in self._history.items()}
        parameters = recorded.get("parameters", self._parameters)
        constants = network.constants(parameters).unsqueeze(-2)
        nll = negative_log_likelihood(network.head, recorded["raw"], constants, self._fixed, y, knobs.beta)
        losses = (nll * weight).sum(-1).mean(-1)
        if self._sampler and knobs.kl_weight:
            divergence = self._sampler.divergence(parameters, recorded.get("weights"), recorded.get("noise"))
            losses += knobs.kl_weight * divergence
        if knobs.l2:
            losses += 0.5 * knobs.l2 * (parameters.square() * self._mask).sum(-1)
        if self._ridge:
            beta = network.output_kernel
            losses += 0.5 * knobs.ridge * parameters[..., beta.start : beta.stop].square().sum(-1)
        return losses

    def _allocate(self, n_rows: int) -> None:
        """Build everything whose shape depends on the batch."""
        program, sampler = self._program, self._sampler
        network, n_members = program.network, len(self._parameters)
        self._n_rows, self._n_samples = n_rows, sampler.n_samples if sampler else 1
        n_draws = n_members * self._n_samples
        weights, gradient = self._parameters, self._gradient
        if sampler:
            weights, gradient = (w.view(n_draws, -1) for w in (sampler.weights, sampler.weights_gradient))
        self._mask_bits: RandomBlocks | None = None
        self._masks: list[torch.Tensor] | None = None
        if program.dropout and network.n_units:
            self._masks = self._allocate_masks(n_draws * n_rows, [n_draws, n_rows])
        # A multiply and an add, forward and for two products backward; random features have no gradient of their own.
        per_row = 3 * network.n_layer_weights + 2 * network.n_inducing * network.hidden_width
        self._one_thread = 2 * n_draws * n_rows * per_row < ONE_THREAD_FLOPS
        leading = (n_members, self._n_samples)
        self._trunk = trunk = Trunk(
            network, weights, gradient, n_rows, leading, self._features, self._masks, self._one_thread
        )
        self._raw = trunk.raw.unflatten(0, leading)
        constants, constants_gradient = (network.constants(w).unflatten(0, leading) for w in (weights, gradient))
        self._head_gradient = head_gradient(
            network.head,
            self._raw,
            constants,
            self._fixed,
            float(self._knobs.beta),
            trunk.raw_gradient.unflatten(0, leading),
            constants_gradient,
        )
        kept = {"raw": self._raw}
        if sampler or self._knobs.l2 or self._ridge or network.head.n_constants:
            kept["parameters"] = self._parameters
        if sampler:
            noise = self._parameters.new_empty(*leading, network.n_layer_weights)
            self._noise = RandomBlocks(noise, self._generator, torch.Tensor.normal_)
            if program.prior == "scale_mixture":
                kept |= {"weights": sampler.weights, "noise": noise}
        n_slots = steps_ahead(HISTORY_FLOATS, sum(tensor.numel() for tensor in kept.values()))
        self._history = {name: tensor.new_empty(n_slots, *tensor.shape) for name, tensor in kept.items()}
        self._slots = {name: steps.unbind(0) for name, steps in self._history.items()}
        # What does the two halves of a step; between them lies what their losses need.
        on_gpu = self._device.type == "cuda"
        self._halves: tuple[Callable[..., None], ...] = (Replayed(), Replayed()) if on_gpu else (call, call)

    def _allocate_masks(self, n_units_rows: int, leading: list[int]) -> list[torch.Tensor]:
        """Buffers of the dropout masks: one random 16-bit number for each unit and row."""
        sizes = self._program.network.hidden_layer_sizes
        n_numbers = n_units_rows * sum(sizes)
        bits = torch.empty(-(-n_numbers // 4), dtype=torch.int64, device=self._device)
        self._mask_bits = RandomBlocks(bits, self._generator, torch.Tensor.random_, -(2**63), None)
        self._mask_values = self._parameters.new_empty(n_numbers)
        keep = 1.0 - float(self._knobs.dropout_rate)
        self._mask_limit = max(round(keep * 2**16) - 2**15 - 1, -(2**15))
        self._mask_scale = self._parameters.new_tensor(1.0 / keep)
        return [
            part.view(*leading, size)
            for part, size in zip(self._mask_values.split([n_units_rows * s for s in sizes]), sizes, strict=True)
        ]

    def _set_masks(self, bits: torch.Tensor) -> None:
        numbers = bits.view(torch.int16)[: len(self._mask_values)]
        torch.le(numbers, self._mask_limit, out=self._mask_values)
        self._mask_values.mul_(self._mask_scale)

    def _rates(self, learning_rate: np.ndarray) -> Sequence[float | torch.Tensor]:
        """Learning rate of each step: a number, or on a GPU, where a graph reads it, a tensor."""
        if self._device.type == "cuda":
            return self._tensor(learning_rate).unbind(0)
        return np.asarray(learning_rate, float).tolist()

    def _shared(self, array: np.ndarray) -> torch.Tensor:
        """Tensor for reading, on the memory of the array where PyTorch can."""
        array = np.asarray(array, dtype=np.float32)
        return torch.as_tensor(array, device=self._device) if array.flags.writeable else self._tensor(array)

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        return torch.tensor(np.asarray(array, dtype=np.float32), device=self._device)


class RandomBlocks:
    """Random numbers of a step, generated for several small steps at once.

    The size of a block depends on the step's size alone, so how many steps a run has changes no number.

    Parameters
    ----------
    like : Tensor
        Shape, dtype and device of one step's numbers.
    generator : torch.Generator
    fill : callable
        Fills a tensor in place: ``fill(tensor, *arguments, generator=generator)``. (One that held the trainer would keep
        all its buffers until the next garbage collection.)
    """

    def __init__(
        self, like: torch.Tensor, generator: torch.Generator, fill: Callable[..., torch.Tensor], *arguments: Any
    ) -> None:
        self._block = torch.empty(
            (steps_ahead(NOISE_FLOATS, like.numel()), *like.shape), dtype=like.dtype, device=like.device
        )
        self._generator, self._fill, self._arguments = generator, fill, arguments
        self._steps: Iterator[torch.Tensor] = iter(())

    def next(self) -> torch.Tensor:
        """Numbers of the next step; valid until the next call."""
        numbers = next(self._steps, None)
        if numbers is None:
            filled = self._fill(self._block, *self._arguments, generator=self._generator)
            self._steps = iter(filled.unbind(0))
            numbers = next(self._steps)
        return numbers


def steps_ahead(budget: int, size: int) -> int:
    """Return how many steps of `size` numbers a budget holds."""
    return min(max(budget // max(size, 1), 1), MAX_STEPS_AHEAD)


def check_device(device: str | torch.device) -> torch.device:
    """Return the torch device, or raise if this PyTorch cannot use it."""
    device = torch.device(device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise RuntimeError(
            f"device={str(device)!r} was asked for, but PyTorch {torch.__version__} finds no CUDA device here. Use "
            f'device="cpu", or install a CUDA build of PyTorch on a machine with an NVIDIA GPU.'
        )
    return device


@contextmanager
def no_autocast(device: torch.device) -> Iterator[None]:
    """Compute in the dtypes of the tensors, though a user may have turned autocast on in this thread.

    Default dtype and default device are not touched: every tensor is made with its own.
    """
    with torch.autocast(device.type, enabled=False):
        yield


@contextmanager
def single_thread() -> Iterator[None]:
    """Hold torch and NumPy's BLAS to one thread each, and restore the numbers after."""
    with single_blas_thread():
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(before)
