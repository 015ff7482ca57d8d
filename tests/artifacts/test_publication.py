"""Publications: found by their settings, published with them."""

from pathlib import Path

import pytest

from hvp.artifacts.local import LocalStore
from hvp.artifacts.publication import Publication
from hvp.artifacts.store import ArtifactType
from hvp.files import settings_digest


def test_a_publication_is_found_by_its_settings_once_it_is_published(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = LocalStore(tmp_path / "store")
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "a.txt").write_text("a")
    clips = Publication("clips-x", ArtifactType.DATASET, {"size": [4, 8]}, ())
    clips_reference = clips.publish(store, tmp_path / "files").reference

    settings = {"seed": 1, "model": {"lr": 0.1}}
    made = Publication("structure-x", ArtifactType.PREDICTIONS, settings, (clips_reference,))
    assert made.find(store) is None
    artifact = made.publish(store, tmp_path / "files", ["best"], {"global_step": 3})
    assert capsys.readouterr().out.split()[-2:] == ["published", "structure-x:v0"]
    assert artifact.metadata == {
        "settings_digest": settings_digest(settings),
        "settings": settings,
        "global_step": 3,
    }
    assert artifact.inputs == (clips_reference,)
    found = made.find(store)
    assert found is not None
    assert found.reference == "structure-x:v0"
    assert set(found.aliases) == {"best", "latest"}
    settings = {"weights": str(tmp_path / "vgg.pth"), "i3d": "/data/i3d.pth"}
    with_paths = Publication("image-x", ArtifactType.CHECKPOINT, settings)
    artifact = with_paths.publish(store, tmp_path / "files", work_dir=tmp_path)
    assert artifact.metadata == {
        "settings_digest": settings_digest(settings),
        "settings": {"weights": "vgg.pth", "i3d": ".../i3d.pth"},
    }
    assert with_paths.find(store) is not None
    other = Publication("structure-x", ArtifactType.PREDICTIONS, settings | {"seed": 2}, ())
    assert other.find(store) is None
