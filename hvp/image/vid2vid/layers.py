"""Layers of vid2vid: norms, residual blocks, down- and upsampling convolutions.

Widths are channel counts. All blocks keep the order pad, convolution, norm, activation.
"""

from collections import OrderedDict
from collections.abc import Callable

from torch import Tensor, nn

from hvp.errors import ConfigError

Norm = Callable[[int], nn.Module]


def norm_layer(name: str) -> Norm:
    """Norm layer by name: `batch` (as published) or `instance`.

    Raises:
        ConfigError: another name.
    """
    norms: dict[str, Norm] = {"batch": nn.BatchNorm2d, "instance": nn.InstanceNorm2d}
    if name not in norms:
        raise ConfigError(f"norm={name}: unknown; choose one of {', '.join(norms)}")
    return norms[name]


def _norm_relu(width: int, norm: Norm) -> list[nn.Module]:
    return [norm(width), nn.ReLU()]


def encoder(in_width: int, width: int, n_down: int, norm: Norm) -> list[nn.Module]:
    """Encoder: 7x7 convolution to `width`, `n_down` stride-2 convolutions doubling the width."""
    layers = [nn.ReflectionPad2d(3), nn.Conv2d(in_width, width, 7), *_norm_relu(width, norm)]
    for _ in range(n_down):
        layers += [nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)]
        layers += _norm_relu(2 * width, norm)
        width *= 2
    return layers


class ResidualBlock(nn.Module):
    """Residual block: x + norm(conv3x3(relu(norm(conv3x3(x))))), reflection-padded."""

    def __init__(self, width: int, norm: Norm) -> None:
        super().__init__()
        self.block = nn.Sequential(
            nn.ReflectionPad2d(1),
            nn.Conv2d(width, width, 3),
            *_norm_relu(width, norm),
            nn.ReflectionPad2d(1),
            nn.Conv2d(width, width, 3),
            norm(width),
        )

    def forward(self, x_BDhw: Tensor) -> Tensor:
        """(B, width, h, w) to (B, width, h, w)."""
        return x_BDhw + self.block(x_BDhw)


def residual_blocks(width: int, n_blocks: int, norm: Norm) -> list[nn.Module]:
    """List of `n_blocks` residual blocks."""
    return [ResidualBlock(width, norm) for _ in range(n_blocks)]


def trunk(width: int, n_blocks: int, n_up: int, norm: Norm) -> nn.Sequential:
    """Trunk: `n_blocks` residual blocks, then `n_up` transposed convolutions halving the width."""
    up: list[nn.Module] = []
    residual = residual_blocks(width, n_blocks, norm)
    for _ in range(n_up):
        up += [nn.ConvTranspose2d(width, width // 2, 3, stride=2, padding=1, output_padding=1)]
        up += _norm_relu(width // 2, norm)
        width //= 2
    return nn.Sequential(OrderedDict(residual=nn.Sequential(*residual), up=nn.Sequential(*up)))


def output_layer(width: int, out_width: int, activation: nn.Module | None) -> nn.Sequential:
    """Output layer: reflection-padded 7x7 convolution to `out_width`, then `activation`."""
    layers: list[nn.Module] = [nn.ReflectionPad2d(3), nn.Conv2d(width, out_width, 7)]
    return nn.Sequential(*layers, *([activation] if activation is not None else []))


def initialise(network: nn.Module) -> None:
    """Initialise as published: convolution weights N(0, 0.02), batch-norm weights N(1, 0.02)."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, 0.0, 0.02)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, 0.02)
            nn.init.zeros_(module.bias)
