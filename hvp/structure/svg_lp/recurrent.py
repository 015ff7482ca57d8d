"""ConvLSTMs of SVG-LP: frame predictor, posterior and prior.

Each takes several time steps at once, time-major, so that all but the recurrence is computed in one
call for all steps. States are arguments and results; `None` stands for zeros.

Shapes: N = n_steps * B maps, time-major; B batch, K channels, h w latent size, g latent width,
z noise width, r recurrent width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hvp.structure.svg_lp.layers import State, conv3x3


class ConvLSTMCell(nn.Module):
    """ConvLSTM cell: LSTM with 3x3 convolutions (gates: input, forget, cell, output)."""

    def __init__(self, in_width: int, width: int) -> None:
        super().__init__()
        self.input = conv3x3(in_width, 4 * width)
        self.hidden = conv3x3(width, 4 * width)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -(width**-0.5), width**-0.5)

    def forward(
        self, x_NKhw: Tensor, state: State | None, n_steps: int = 1
    ) -> tuple[Tensor, State]:
        """Hidden states (N, r, h, w) of every step, and the state after the last."""
        outputs = []
        for gates_B4rhw in self.input(x_NKhw).chunk(n_steps):
            state = self._step(gates_B4rhw, state)
            outputs.append(state[0])
        assert state is not None
        return torch.cat(outputs), state

    def _step(self, gates_B4rhw: Tensor, state: State | None) -> State:
        if state is None:
            assert self.hidden.bias is not None
            i, f, g, o = (gates_B4rhw + self.hidden.bias[:, None, None]).chunk(4, dim=1)
            cell = torch.sigmoid(i) * torch.tanh(g)
        else:
            i, f, g, o = (gates_B4rhw + self.hidden(state[0])).chunk(4, dim=1)
            cell = torch.sigmoid(f) * state[1] + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(cell), cell


class Predictor(nn.Module):
    """Frame predictor (two-layer ConvLSTM): previous latent and noise to the next latent."""

    def __init__(self, latent_width: int, noise_width: int, width: int, n_layers: int = 2) -> None:
        super().__init__()
        self.embed = conv3x3(latent_width + noise_width, width)
        self.cells = nn.ModuleList(ConvLSTMCell(width, width) for _ in range(n_layers))
        self.output = conv3x3(width, latent_width)

    def advance(
        self,
        latent_Nghw: Tensor,
        noise_Nzhw: Tensor,
        states: list[State] | None,
        n_steps: int = 1,
    ) -> tuple[Tensor, list[State]]:
        """Top layer's hidden states (N, r, h, w) of every step, and all states after the last."""
        x, after = self.embed(torch.cat([latent_Nghw, noise_Nzhw], dim=1)), []
        for layer, cell in enumerate(self.cells):
            x, state = cell(x, None if states is None else states[layer], n_steps)
            after.append(state)
        return x, after

    def forward(
        self,
        latent_Nghw: Tensor,
        noise_Nzhw: Tensor,
        states: list[State] | None,
        n_steps: int = 1,
    ) -> tuple[Tensor, list[State]]:
        """Next latents (N, g, h, w) of every step, and all states after the last."""
        x, after = self.advance(latent_Nghw, noise_Nzhw, states, n_steps)
        return F.relu(self.output(x)), after


class GaussianConvLSTM(nn.Module):
    """Posterior or prior (ConvLSTM): latents so far to a diagonal Gaussian over a noise map."""

    def __init__(self, latent_width: int, noise_width: int, width: int) -> None:
        super().__init__()
        self.embed = conv3x3(latent_width, width)
        self.cell = ConvLSTMCell(width, width)
        self.mu = conv3x3(width, noise_width)
        self.logvar = conv3x3(width, noise_width)

    def advance(
        self, latent_Nghw: Tensor, state: State | None, n_steps: int = 1
    ) -> tuple[Tensor, State]:
        """Hidden states (N, r, h, w) of every step, and the state after the last."""
        return self.cell(self.embed(latent_Nghw), state, n_steps)

    def forward(
        self, latent_Nghw: Tensor, state: State | None, n_steps: int = 1
    ) -> tuple[Tensor, Tensor, State]:
        """Mean and log-variance (N, z, h, w) of every step, and the state after the last."""
        hidden, state = self.advance(latent_Nghw, state, n_steps)
        return self.mu(hidden), self.logvar(hidden), state


def sample_gaussian(mu: Tensor, logvar: Tensor, eps: Tensor) -> Tensor:
    """Reparameterisation trick: sample of N(mu, exp(logvar)) for standard-normal `eps`."""
    return mu + torch.exp(0.5 * logvar) * eps
