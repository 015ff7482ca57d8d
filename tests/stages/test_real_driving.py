"""Pipeline on real dash-cam sequences: `dataset=folder` with labels and RGB."""

from pathlib import Path

import pytest

from hvp.artifacts.local import LocalStore
from hvp.artifacts.predictions import PredictionSet
from hvp.artifacts.videos import VideoSet
from tests.helpers.commands import ROOT, SMALL_MODELS, run_well

DRIVING = ROOT.parent / "shared" / "data" / "driving"


@pytest.mark.skipif(not DRIVING.is_dir(), reason=f"no real dash-cam sequences in {DRIVING}")
def test_pipeline_runs_on_a_folder_of_real_sequences(tmp_path: Path) -> None:
    command = ("stage=pipeline", "dataset=folder", f"data_root={DRIVING}", *SMALL_MODELS)
    printed = run_well(*command, work_dir=tmp_path)
    assert "copy" in printed
    assert "report" in printed
    store = LocalStore(tmp_path / "artifacts")
    predictions = PredictionSet(store.fetch("structure-folder").path)
    assert {clip.clip.recording for clip in predictions.clips} == {"kitti_a"}
    videos = VideoSet(store.fetch("image-folder").path)
    assert {video.clip.recording for video in videos.clips} == {"kitti_a"}
