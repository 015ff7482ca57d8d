"""Stage one against its step-by-step oracle: training step and rollout, seconds and ratios.

    python benchmarks/structure.py --size 64 64 --batch 4 --frames 20 --samples 10 --horizon 15

Checks first that both give the same numbers, then times them alternately (so that a busy machine
slows both alike) and reports medians. The CPU ratio counts processor seconds of this process: it
stays meaningful where other processes take turns on the cores.
"""

import argparse
import copy
import statistics
import sys
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hvp.files import write_json
from hvp.structure.svg_lp.network import SVGLPNetwork
from tests.structure import oracle

BETA = 5e-4


def main() -> None:
    """Parse the options, check agreement, time, print."""
    options = parse_options()
    torch.manual_seed(0)
    if options.threads:
        torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    model = SVGLPNetwork(
        options.classes,
        options.size,
        options.n_past,
        base_width=options.width,
        latent_width=options.latent_width,
        noise_width=options.noise_width,
        rnn_width=options.rnn_width,
    ).to(device)
    naive = copy.deepcopy(model)
    shape = (options.batch, options.frames, *options.size)
    labels_BTHW = torch.randint(options.classes, shape, dtype=torch.uint8, device=device)

    differences = check_agreement(model, naive, labels_BTHW, options)
    print("agreement:", ", ".join(f"{name} {value:.1e}" for name, value in differences.items()))

    cases = {
        "training step": training_steps(model, naive, labels_BTHW, options),
        f"rollout of {options.samples} samples": rollouts(model, naive, labels_BTHW, options),
    }
    results = {}
    print(f"{'':26}{'fast s':>10}{'oracle s':>10}{'ratio':>8}{'CPU ratio':>11}")
    for name, (fast, slow) in cases.items():
        (fast_s, fast_cpu_s), (slow_s, slow_cpu_s) = time_alternately(
            fast, slow, options.repeats, device
        )
        results[name] = {
            "fast_s": fast_s,
            "oracle_s": slow_s,
            "ratio": slow_s / fast_s,
            "cpu_ratio": slow_cpu_s / fast_cpu_s,
        }
        ratios = f"{slow_s / fast_s:7.2f}x{slow_cpu_s / fast_cpu_s:10.2f}x"
        print(f"{name:26}{fast_s:10.3f}{slow_s:10.3f}{ratios}", flush=True)
    if options.json:
        settings = {key: value for key, value in vars(options).items() if key != "json"}
        settings["threads"] = torch.get_num_threads()
        write_json(
            options.json,
            {
                "settings": settings,
                "torch": torch.__version__,
                "parameters": sum(p.numel() for p in model.parameters()),
                "differences": differences,
                "results": results,
            },
        )


def parse_options() -> argparse.Namespace:
    """Options; the defaults are the published KITTI 64 training shape."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, nargs=2, default=[64, 64], metavar=("H", "W"))
    parser.add_argument("--classes", type=int, default=19)
    parser.add_argument("--batch", type=int, default=4, help="clips")
    parser.add_argument("--frames", type=int, default=20, help="frames per training clip")
    parser.add_argument("--n-past", type=int, default=5, help="context frames")
    parser.add_argument("--samples", type=int, default=10, help="futures per clip")
    parser.add_argument("--horizon", type=int, default=15, help="generated frames per future")
    parser.add_argument("--skip", choices=["frozen", "latest"], default="frozen")
    parser.add_argument("--width", type=int, default=64, help="base width n")
    parser.add_argument("--latent-width", type=int, default=128, help="g")
    parser.add_argument("--noise-width", type=int, default=128, help="z")
    parser.add_argument("--rnn-width", type=int, default=256, help="r")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads (0: torch's choice)")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, help="also write settings and results here")
    return parser.parse_args()


def draw_noise(model: SVGLPNetwork, options: argparse.Namespace, n_steps: int) -> list[Tensor]:
    """The first `n_steps` noise tensors of a rollout."""
    noise = model.seeded_noise(range(options.batch), options.n_past, options.samples)
    return list(islice(noise, n_steps))


def training_noise(model: SVGLPNetwork, options: argparse.Namespace) -> Tensor:
    """Posterior noise (T-1, B, z, h, w)."""
    like = next(model.parameters())
    shape = (options.frames - 1, options.batch, *model.noise_shape)
    return torch.randn(shape, device=like.device, dtype=like.dtype)


def check_agreement(
    model: SVGLPNetwork, naive: SVGLPNetwork, labels_BTHW: Tensor, options: argparse.Namespace
) -> dict[str, float]:
    """Largest relative differences in float64 (first clip, a few frames); exits on disagreement."""
    labels_BTHW = labels_BTHW[:1, : min(options.frames, options.n_past + 2)]
    short = argparse.Namespace(**vars(options))
    short.batch, short.frames, short.samples = 1, labels_BTHW.shape[1], 2
    model.double()
    naive.double()
    eps = training_noise(model, short)
    fast = model.training_pass(labels_BTHW, options.skip, eps).loss(BETA)
    slow = oracle.training_pass(naive, labels_BTHW, options.skip, eps, BETA).loss
    fast.backward()
    slow.backward()
    differences = {"loss": relative(fast.detach(), slow.detach())}
    differences["gradients"] = max(
        relative(ours.grad, theirs.grad)
        for ours, theirs in zip(model.parameters(), naive.parameters(), strict=True)
        if ours.grad is not None and theirs.grad is not None
    )
    noise = draw_noise(model, short, options.n_past + 1)
    context_BTHW = labels_BTHW[:, : options.n_past]
    steps = model.rollout(context_BTHW, 2, short.samples, options.skip, iter(noise))
    expected = oracle.rollout(naive, context_BTHW, 2, short.samples, options.skip, noise)
    different = torch.stack(list(steps), dim=2) != expected
    differences["rollout labels"] = different.double().mean().item()
    if any(value > 1e-6 for value in differences.values()):
        raise SystemExit(f"fast path and oracle disagree: {differences}")
    for network in (model, naive):
        network.float()
        network.zero_grad()
    return differences


def relative(actual: Tensor, expected: Tensor) -> float:
    """Norm of the difference over the norm of `expected`."""
    return ((actual - expected).norm() / expected.norm().clamp(min=1e-30)).item()


def training_steps(
    model: SVGLPNetwork, naive: SVGLPNetwork, labels_BTHW: Tensor, options: argparse.Namespace
) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Forward, backward and Adam step, fast and naive."""
    eps = training_noise(model, options)

    def stepper(network: SVGLPNetwork, loss: Callable[[], Tensor]) -> Callable[[], None]:
        optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)

        def step() -> None:
            optimizer.zero_grad()
            loss().backward()
            optimizer.step()

        return step

    return (
        stepper(model, lambda: model.training_pass(labels_BTHW, options.skip, eps).loss(BETA)),
        stepper(
            naive,
            lambda: oracle.training_pass(naive, labels_BTHW, options.skip, eps, BETA).loss,
        ),
    )


def rollouts(
    model: SVGLPNetwork, naive: SVGLPNetwork, labels_BTHW: Tensor, options: argparse.Namespace
) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """All samples of all clips, fast and naive, from the same noise."""
    context_BTHW = labels_BTHW[:, : options.n_past]
    noise = draw_noise(model, options, options.n_past - 1 + options.horizon)
    size = (options.horizon, options.samples, options.skip)
    return (
        lambda: list(model.rollout(context_BTHW, *size, iter(noise))),
        lambda: oracle.rollout(naive, context_BTHW, *size, noise),
    )


def time_alternately(
    fast: Callable[[], Any], slow: Callable[[], Any], repeats: int, device: torch.device
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Median (wall, CPU) seconds of both, run in turns after one warm-up of the fast one."""
    fast()
    seconds: dict[Callable[[], Any], list[tuple[float, float]]] = {fast: [], slow: []}
    for _ in range(repeats):
        for function, times in seconds.items():
            synchronise(device)
            wall, cpu = time.perf_counter(), time.process_time()
            function()
            synchronise(device)
            times.append((time.perf_counter() - wall, time.process_time() - cpu))
    return medians(seconds[fast]), medians(seconds[slow])


def medians(times: list[tuple[float, float]]) -> tuple[float, float]:
    """Median wall and median CPU seconds."""
    wall, cpu = zip(*times, strict=True)
    return statistics.median(wall), statistics.median(cpu)


def synchronise(device: torch.device) -> None:
    """Wait until the device has finished."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    main()
