"""Reference implementation of the segmentation metrics: plain loops, one pixel set at a time."""

import numpy as np


def frame_miou(prediction: np.ndarray, truth: np.ndarray) -> float:
    """Mean IoU over the classes present in one frame's ground truth."""
    valid = truth != 255
    ious = []
    for label in np.unique(truth[valid]):
        predicted, real = (prediction == label) & valid, truth == label
        ious.append((predicted & real).sum() / (predicted | real).sum())
    return float(np.mean(ious)) if ious else float("nan")


def frame_class_iou(prediction: np.ndarray, truth: np.ndarray, label: int) -> float:
    """IoU of one class in one frame; NaN where the ground truth lacks it."""
    valid = truth != 255
    predicted, real = (prediction == label) & valid, truth == label
    return float((predicted & real).sum() / (predicted | real).sum()) if real.any() else np.nan


def frame_accuracy(prediction: np.ndarray, truth: np.ndarray) -> float:
    valid = truth != 255
    return float((prediction == truth)[valid].mean()) if valid.any() else float("nan")


def horizon_scores(
    clips: list[tuple[np.ndarray, np.ndarray]], horizon: int
) -> dict[str, np.ndarray]:
    """`miou_mean`, `miou_best`, `accuracy_mean`, `accuracy_best` and `clips` by plain loops."""
    lists: dict[str, list[list[float]]] = {
        name: [[] for _ in range(horizon)]
        for name in ("miou_mean", "miou_best", "accuracy_mean", "accuracy_best")
    }
    for samples, truth in clips:
        n_steps = min(len(truth), samples.shape[1])
        miou = [[frame_miou(s[t], truth[t]) for t in range(n_steps)] for s in samples]
        accuracy = [[frame_accuracy(s[t], truth[t]) for t in range(n_steps)] for s in samples]
        best = max(range(len(samples)), key=lambda s: float(np.nanmean(miou[s])))
        for t in range(n_steps):
            if np.isnan(miou[0][t]):
                continue
            lists["miou_mean"][t].append(float(np.mean([row[t] for row in miou])))
            lists["miou_best"][t].append(miou[best][t])
            lists["accuracy_mean"][t].append(float(np.mean([row[t] for row in accuracy])))
            lists["accuracy_best"][t].append(accuracy[best][t])
    result = {
        name: np.array([np.mean(values) if values else np.nan for values in steps])
        for name, steps in lists.items()
    }
    result["clips"] = np.array([len(values) for values in lists["miou_mean"]])
    return result
