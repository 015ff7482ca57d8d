"""Human3.6M reader: files in the official formats, synthetic and of real motions."""

import io
import os
import pickle
import shutil
import zipfile

import av
import cdflib
import numpy as np
import pytest
from numpy.lib import format as npy

from hvp.clips import ClipId
from hvp.data.readers.human36m import Human36MReader
from hvp.data.readers.joint_files import open_joint_files
from hvp.data.store import prepare
from hvp.data.synthetic.write_pose import CAMERAS, VIDEOPOSE3D_FILE, main, write_human36m
from hvp.errors import ConfigError, DataError
from hvp.labels import DENSEPOSE
from hvp.media import read_frames, write_mp4
from hvp.worlds.body.capsules import PART, capsules
from tests.helpers.commands import ROOT
from tests.helpers.worlds import part_maps

CMU = ROOT.parent / "shared" / "data" / "pose" / "cmu_pose2d_17j_30hz.npz"
SIZE = (32, 32)
N_FRAMES = 10
DEFAULTS = {
    "train": ["S1", "S8"], "val": [], "test": ["S9"], "cameras": CAMERAS, "exclude": [],
    "margin": 0.05,
}  # fmt: skip


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The same walks in both file formats, with videos beside the .cdf files."""
    root = tmp_path_factory.mktemp("human36m")
    options = {"subjects": ("S1", "S8", "S9"), "takes": 1, "n_frames": N_FRAMES, "size": (96, 96)}
    write_human36m(root / "cdf", "cdf", videos=True, cameras=CAMERAS[:2], **options)
    write_human36m(root / "npz", "npz", cameras=CAMERAS[:2], **options)
    return root


@pytest.fixture
def raw(written, tmp_path):
    """A copy of the .cdf tree to be damaged."""
    shutil.copytree(written / "cdf", tmp_path / "raw")
    return tmp_path / "raw"


def reader(root, **changes):
    options = {**DEFAULTS, "cameras": CAMERAS[:2], **changes}
    return Human36MReader(root, **options)


def recording(source, name="S9/Walking.54138969"):
    return next(r for r in source.recordings() if r.name == name)


def labels_of(source, name="S9/Walking.54138969", size=SIZE):
    return np.stack([f["labels"] for f in source.read(recording(source, name), size, ["labels"])])


def test_takes_are_named_and_split_by_subject(written):
    found = {
        r.name: (r.split, r.n_frames, r.channels) for r in reader(written / "cdf").recordings()
    }
    both = ("labels", "frames")
    assert found == {
        f"{subject}/Walking.{camera}": (split, N_FRAMES, both)
        for subject, split in (("S1", "train"), ("S8", "train"), ("S9", "test"))
        for camera in CAMERAS[:2]
    }
    held_out = reader(written / "cdf", val=["S8"], cameras=CAMERAS[:1]).recordings()
    assert [(r.name[:2], r.split) for r in held_out] == [
        ("S1", "train"), ("S8", "val"), ("S9", "test"),
    ]  # fmt: skip
    excluded = reader(written / "cdf", exclude=["S9/Walking.54138969"])
    assert [r.name for r in excluded.recordings() if r.split == "test"] == ["S9/Walking.55011271"]
    with pytest.raises(DataError, match="no joints of subject 'S1'"):
        reader(written / "cdf", exclude=["S1/Walking"]).recordings()


def test_both_kinds_of_files_give_the_same_maps(written):
    official = reader(written / "cdf")
    community = reader(written / "npz", joints=VIDEOPOSE3D_FILE)
    assert {r.name for r in official.recordings()} == {r.name for r in community.recordings()}
    for name in ("S1/Walking.54138969", "S9/Walking.55011271"):
        np.testing.assert_array_equal(labels_of(official, name), labels_of(community, name))
    assert official.settings() != community.settings()
    assert {r.channels for r in community.recordings()} == {("labels",)}


def test_settings_do_not_depend_on_where_the_joints_lie(written, raw, tmp_path, monkeypatch):
    """A file inside the dataset's folder or outside of it, before or behind it by name."""
    monkeypatch.chdir(tmp_path)
    settings = []
    for folder in ("raw", "raw/joints", "a", "z"):
        path = tmp_path / folder / VIDEOPOSE3D_FILE
        path.parent.mkdir(exist_ok=True)
        shutil.copy(written / "npz" / VIDEOPOSE3D_FILE, path)
        settings += [
            reader(raw, joints=path).settings(),
            reader(raw, joints=f"../{folder}/{VIDEOPOSE3D_FILE}").settings(),
            reader("raw", joints=path).settings(),
        ]
    assert {r.channels for r in reader(raw, joints=path).recordings()} == {("labels", "frames")}
    assert all(one == settings[0] for one in settings)


def test_the_window_of_a_take_is_fixed_and_holds_the_person(written):
    labels = labels_of(reader(written / "cdf", margin=0.05), size=(64, 64)) > 0
    border = np.ones((64, 64), bool)
    border[3:-3, 3:-3] = False
    assert not labels[:, border].any()
    rows, columns = np.nonzero(labels.any(0))
    assert max(np.ptp(rows), np.ptp(columns)) >= 55  # the person of the whole take fills it
    assert (labels[0] != labels[-1]).sum() > 40


def test_frames_show_what_the_labels_say_at_the_same_time(written, raw):
    """A video of people on black, brighter in every frame: each is where its labels say."""
    with np.load(written / "npz" / VIDEOPOSE3D_FILE, allow_pickle=True) as file:
        joints = file["positions_2d"].item()["S9"]["Walking"][0]
    people = part_maps(capsules(joints), (96, 96)) > 0
    bright = 100 + 15 * np.arange(N_FRAMES)
    canvas = (people * bright[:, None, None]).astype(np.uint8)[..., None].repeat(3, -1)
    write_mp4(raw / "S9" / "Videos" / "Walking.54138969.mp4", canvas, 50.0)
    source = reader(raw, cameras=CAMERAS[:1])
    for index, arrays in enumerate(source.read(recording(source), (64, 64), ["labels", "frames"])):
        shown, said = arrays["frames"][..., 0], arrays["labels"] > 0
        assert np.median(shown[said]) == pytest.approx(bright[index], abs=4)
        seen = shown > bright[index] / 2
        assert (seen & said).sum() / (seen | said).sum() > 0.85


def test_labels_alone_never_open_a_video(raw, tmp_path):
    for video in raw.glob("*/Videos/*.mp4"):
        video.write_bytes(b"no video at all")
    data = prepare(reader(raw), tmp_path / "data", SIZE, ["labels"])
    assert data.read("labels", ClipId("S9/Walking.55011271", 0, 1), 99).shape == (N_FRAMES, *SIZE)
    with pytest.raises(DataError, match=r"Walking\.\d+\.mp4: expected a readable video file"):
        prepare(reader(raw), tmp_path / "data", SIZE, ["labels", "frames"])


def test_a_video_may_be_longer_than_its_poses_but_not_shorter(raw, tmp_path):
    path = raw / "S1" / "Videos" / "Walking.54138969.mp4"
    frames = list(read_frames(path))
    write_mp4(path, [*frames, *frames[:3]], 50.0)
    prepare(reader(raw), tmp_path / "long", SIZE, ["labels", "frames"])
    write_mp4(path, frames[:7], 50.0)
    with pytest.raises(DataError, match=rf"Walking\.54138969\.mp4: 7 frames.*least {N_FRAMES}"):
        prepare(reader(raw), tmp_path / "short", SIZE, ["labels", "frames"])
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(DataError, match=r"S1/Videos/Walking\.54138969\.mp4"):
        prepare(reader(raw), tmp_path / "broken", SIZE, ["labels", "frames"])


def test_takes_without_video_serve_stage_one_only(raw, tmp_path):
    (raw / "S8" / "Videos" / "Walking.55011271.mp4").unlink()
    assert recording(reader(raw), "S8/Walking.55011271").channels == ("labels",)
    with pytest.raises(DataError, match="1 of 6 recordings have no frames"):
        prepare(reader(raw), tmp_path / "data", SIZE, ["labels", "frames"])


@pytest.mark.parametrize("suffix", [".MP4", ".mov"])
def test_videos_of_other_suffixes_are_found(raw, tmp_path, suffix):
    path = raw / "S8" / "Videos" / "Walking.55011271.mp4"
    path.rename(path.with_suffix(suffix))
    assert recording(reader(raw), "S8/Walking.55011271").channels == ("labels", "frames")
    prepare(reader(raw), tmp_path / "data", SIZE, ["frames"])
    shutil.copy(path.with_suffix(suffix), path)
    with pytest.raises(DataError, match=r"Walking\.55011271.*is there too"):
        reader(raw).recordings()


def test_videos_that_no_rule_takes_are_rows_of_what_is_left_out(raw):
    """Not those of cameras and takes that are left out, nor of the calibration."""
    videos = raw / "S8" / "Videos"
    for name in ("_ALL.54138969.mp4", "Walking.58860488.mp4", "._Walking.54138969.mp4"):
        shutil.copy(videos / "Walking.54138969.mp4", videos / name)
    excluded = reader(raw, exclude=["S9/Walking.54138969"])
    assert not any(skip.unread for skip in excluded.skipped())
    (videos / "Walking.55011271.mp4").rename(videos / "walk 55011271.mp4")
    rows = [skip for skip in reader(raw).skipped() if skip.unread]
    assert [skip.names for skip in rows] == [("S8/Videos/walk 55011271.mp4",)]


def test_an_exclusion_that_excludes_nothing_is_an_error(raw):
    with pytest.raises(DataError, match=r"exclude: 'S1/Waking' excludes nothing.*S1/Walking"):
        reader(raw, exclude=["S1/Waking"]).recordings()


def test_a_video_that_lost_frames_after_the_last_pose_is_an_error(raw, tmp_path):
    """What a file lacks is noticed by its header, whatever the poses need of it."""
    path = raw / "S1" / "Videos" / "Walking.54138969.mp4"
    frames = list(read_frames(path))
    write_mp4(path, [*frames, *frames], 50.0)
    content = path.read_bytes()
    with av.open(str(path)) as container:
        packets = sorted(p.pos for p in container.demux(video=0) if p.size)
    path.write_bytes(content[: packets[-3]])  # its index promises three more
    with pytest.raises(DataError, match=r"S1/Videos/Walking\.54138969\.mp4: 1\d frames.* 20 by"):
        prepare(reader(raw), tmp_path / "data", SIZE, ["labels", "frames"])


@pytest.mark.parametrize("keep", [0, 200, 0.6])
def test_truncated_cdf_is_an_error_that_names_it(raw, keep):
    path = raw / "S1" / "MyPoseFeatures" / "D2_Positions" / "Walking.54138969.cdf"
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content)) if keep < 1 else keep])
    with pytest.raises(DataError, match=r"Walking\.54138969\.cdf: cannot be read as \.cdf"):
        labels_of(reader(raw), "S1/Walking.54138969")


def test_cdf_without_the_pose_or_of_other_joints_is_an_error(raw):
    path = raw / "S1" / "MyPoseFeatures" / "D2_Positions" / "Walking.54138969.cdf"
    for name, width, message in (("Angles", 64, "variable Pose"), ("Pose", 96, "32 joints x 2")):
        path.unlink()
        file = cdflib.cdfwrite.CDF(path)
        about = {"Variable": name, "Data_Type": file.CDF_FLOAT, "Num_Elements": 1,
                 "Rec_Vary": True, "Dim_Sizes": [5, width]}  # fmt: skip
        file.write_var(about, var_data=np.zeros((1, 5, width), np.float32))
        file.close()
        with pytest.raises(DataError, match=message):
            reader(raw).recordings()


class _Hostile:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


def test_hostile_pickle_is_refused_and_never_runs(tmp_path):
    trap = tmp_path / "it_ran"
    walks = {"S1": {"Walking": [_Hostile(trap)]}}
    np.savez(tmp_path / VIDEOPOSE3D_FILE, positions_2d=walks, metadata={})
    with pytest.raises(DataError, match=r"data_2d_h36m_gt\.npz: the pickle .* was refused.*mkdir"):
        reader(tmp_path, joints=VIDEOPOSE3D_FILE).recordings()
    assert not trap.exists()
    np.load(tmp_path / VIDEOPOSE3D_FILE, allow_pickle=True)["positions_2d"]
    assert trap.exists()  # the trap was a real one


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_files_of_older_numpy_and_other_protocols_are_read(written, tmp_path, protocol):
    with np.load(written / "npz" / VIDEOPOSE3D_FILE, allow_pickle=True) as file:
        positions = file["positions_2d"]
    content = pickle.dumps(positions, protocol=protocol)
    if protocol < 4:  # names stand there as lines, so the old home can be put in
        content = content.replace(b"cnumpy._core.", b"cnumpy.core.")
        assert b"cnumpy.core.multiarray" in content
    header = io.BytesIO()
    npy.write_array_header_1_0(header, {"descr": "|O", "fortran_order": False, "shape": ()})
    with zipfile.ZipFile(tmp_path / VIDEOPOSE3D_FILE, "w") as archive:
        archive.writestr("positions_2d.npy", header.getvalue() + content)
    again = reader(tmp_path, joints=VIDEOPOSE3D_FILE)
    expected = reader(written / "npz", joints=VIDEOPOSE3D_FILE)
    np.testing.assert_array_equal(labels_of(again), labels_of(expected))


def test_damaged_and_missing_joint_files_are_errors(written, tmp_path):
    with pytest.raises(DataError, match=r"nowhere\.npz: the file is missing"):
        reader(tmp_path, joints="nowhere.npz")
    content = (written / "npz" / VIDEOPOSE3D_FILE).read_bytes()
    (tmp_path / VIDEOPOSE3D_FILE).write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"data_2d_h36m_gt\.npz: cannot be read as \.npz"):
        reader(tmp_path, joints=VIDEOPOSE3D_FILE)
    np.savez(tmp_path / VIDEOPOSE3D_FILE, positions_2d={"S1": {"Walking": [np.zeros((4, 17, 2))]}})
    with pytest.raises(DataError, match="with 2 cameras"):
        reader(tmp_path, joints=VIDEOPOSE3D_FILE).recordings()
    with pytest.raises(DataError, match=r"no <subject>/MyPoseFeatures/D2_Positions"):
        reader(tmp_path).recordings()
    with pytest.raises(DataError, match="no joints of subject 'S5'"):
        reader(written / "cdf", train=["S1", "S5"]).recordings()
    with pytest.raises(DataError, match="is not a folder"):
        reader(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"walking": np.zeros((3, 17, 2))}, "not called <subject>__<action>__<take>"),
        ({"S1__walking__1": np.zeros((3, 16, 2))}, r"joints are \(3, 16, 2\)"),
        ({"S1__walking__1": np.full((3, 17, 2), np.nan)}, "joints of frame 0 are not finite"),
        ({"S1__walking__1": np.array({"a": 1})}, "cannot be read"),
    ],
)
def test_plain_arrays_of_another_kind_are_errors(tmp_path, arrays, message):
    np.savez(tmp_path / "poses.npz", **arrays)
    with pytest.raises(DataError, match=message):
        reader(tmp_path, joints="poses.npz", train=["S1"], test=[]).recordings()


def test_contradicting_settings_are_config_errors(written):
    with pytest.raises(ConfigError, match=r"datamodule\.test: \['S1'\] also in train"):
        reader(written / "cdf", test=["S1"])
    with pytest.raises(ConfigError, match=r"margin=0\.5"):
        reader(written / "cdf", margin=0.5)


def test_settings_follow_everything_the_maps_depend_on(written, raw):
    before = reader(written / "cdf").settings()
    assert reader(written / "cdf").settings() == before
    assert reader(written / "cdf", margin=0.1).settings() != before
    assert reader(written / "cdf", val=["S8"]).settings() != before
    (raw / "S8" / "Videos" / "Walking.55011271.mp4").unlink()
    assert reader(raw).settings() != before


def test_writer_is_a_command_that_overwrites_nothing(tmp_path, capsys):
    command = ["human36m", str(tmp_path / "made"), "--joints", "npz", "--subjects", "S1",
               "--takes", "1", "--frames", "3"]  # fmt: skip
    assert main(command) == 0
    assert [p.name for p in (tmp_path / "made").iterdir()] == [VIDEOPOSE3D_FILE]
    assert main(command) == 1
    assert "exists already" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["made"]


@pytest.fixture(scope="module")
def cmu():
    if not CMU.is_file():
        pytest.skip(f"no real motions: {CMU} is not there")
    options = {**DEFAULTS, "train": ["train"], "test": ["test"], "cameras": []}
    return Human36MReader(CMU.parent, joints=CMU.name, **options)


ACTIONS = ("basketball", "basketball_signal", "directing_traffic", "jumping", "running", "soccer",
           "walking", "walking_extra", "washwindow")  # fmt: skip
LIMBS = ("hand", "foot", "upper leg", "lower leg", "upper arm", "lower arm", "head")


def test_every_real_action_is_there(cmu):
    assert {r.name.split("/")[1] for r in cmu.recordings()} == set(ACTIONS)
    assert len(cmu.recordings()) == 77


@pytest.mark.parametrize("action", ACTIONS)
def test_real_motion_looks_like_a_person_who_moves(cmu, action):
    take = min((r for r in cmu.recordings() if r.name.split("/")[1] == action),
               key=lambda r: r.n_frames)  # fmt: skip
    labels = labels_of(cmu, take.name, (64, 64))[:150]
    DENSEPOSE.check(labels, take.name)
    assert not labels[:, [0, 1, -2, -1]].any()
    assert not labels[:, :, [0, 1, -2, -1]].any()
    ids = set(np.unique(labels).tolist())
    for limb in LIMBS:
        for side in "RL":
            assert ids & {i for n, i in PART.items() if n.startswith(f"{limb} {side}")}, (
                limb,
                side,
            )
    assert ids & {PART["torso front"], PART["torso back"]}
    person = labels > 0
    area = person.sum((1, 2))
    assert 60 < area.min() <= area.max() < 0.4 * 64 * 64
    # Heads are above feet most of the time, and the person does not stand still.
    rows = np.arange(64)[:, None]
    head = np.isin(labels, [PART["head R"], PART["head L"]])
    feet = np.isin(labels, [PART["foot R"], PART["foot L"]])
    seen = head.any((1, 2)) & feet.any((1, 2))
    middle = [(m[seen] * rows).sum((1, 2)) / m[seen].sum((1, 2)) for m in (head, feet)]
    assert seen.mean() > 0.8
    assert (middle[1] - middle[0] > 10).mean() > 0.8
    union, both = person | person[0], person & person[0]
    assert (both.sum((1, 2)) / union.sum((1, 2))).min() < 0.88


@pytest.mark.parametrize("claims", [{}, {"file_size": 2**44 * 17 * 16 + 128}])
def test_what_an_array_of_joints_claims_is_checked_before_it_is_allocated(tmp_path, claims):
    header = {"descr": "<f8", "fortran_order": False, "shape": (2**44, 17, 2)}
    with zipfile.ZipFile(tmp_path / "poses.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("S1__walking__1.npy", "w") as member:
            npy.write_array_header_1_0(member, header)
            member.write(bytes(17 * 16))
        for name, value in claims.items():
            setattr(archive.getinfo("S1__walking__1.npy"), name, value)
    with pytest.raises(DataError, match=r"poses\.npz: array 'S1__walking__1' .*\d bytes"):
        reader(tmp_path, joints="poses.npz", train=["S1"], test=[]).recordings()


@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_of_joints_in_any_order_and_type_are_read(tmp_path, order):
    joints = np.random.default_rng(0).integers(20, 200, (3, 17, 2))
    for dtype in (np.float32, np.float64, ">f4", np.int16):
        array = np.asarray(joints, dtype, order=order)
        np.savez(tmp_path / "poses.npz", S1__walking__1=array)
        files = open_joint_files(tmp_path, "poses.npz", [])
        np.testing.assert_array_equal(files.joints(files.takes()[0]), joints)


def test_a_file_of_joints_that_is_a_fifo_is_named(tmp_path):
    os.mkfifo(tmp_path / "poses.npz")
    with pytest.raises(DataError, match=r"poses\.npz: .*not a regular file"):
        reader(tmp_path, joints="poses.npz", train=["S1"], test=[]).recordings()
