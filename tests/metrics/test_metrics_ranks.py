"""Distributed metrics: two ranks that share the clips equal one process with all clips."""

from pathlib import Path

import torch
import torch.multiprocessing as mp

from tests.helpers.metric_ranks import N_CLIPS, flatten, results, run_rank


def test_two_gloo_ranks_get_the_numbers_of_one_process(tmp_path: Path) -> None:
    alone = results(range(N_CLIPS))
    assert all(torch.cat([x.flatten() for x in flatten(v)]).nansum() > 0 for v in alone.values())
    # Forked: importing everything anew would take longer than the rest of this file's folder.
    mp.start_processes(run_rank, args=(2, tmp_path), nprocs=2, start_method="fork")
    for rank in range(2):
        together = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert together.keys() == alone.keys()
        for name, value in alone.items():
            for ours, expected in zip(together[name], flatten(value), strict=True):
                torch.testing.assert_close(
                    ours, expected, rtol=1e-9, atol=1e-12, equal_nan=True, msg=f"{name}: {ours}"
                )
    part = results(range(0, N_CLIPS, 2))  # or the comparison would prove nothing
    assert all(not torch.equal(flatten(part[n])[0], flatten(alone[n])[0]) for n in alone)
