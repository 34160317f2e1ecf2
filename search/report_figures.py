"""The figures of a report, as plotly's JSON; a point's `customdata` is the number of its trial."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gemnet.errors import GemnetError

from .checking import generator
from .compose import Parts
from .standing import Standing
from .trial import Trial

Figure = dict[str, Any]
Floats = npt.NDArray[np.float64]
MAPPED, CANDIDATES = 1500, 500  # measured and random cells of the map, at most
COLUMNS = 256  # the most frequent WL labels that a map without an encoder looks at
MANY = 1000  # points that are drawn smaller
FOLDS, FEWEST, MOST = 7, 8, 400  # cross-validation, and the numbers of cells for which it is made


def figures(standing: Standing, parts: Parts, phases: Mapping[str, str]) -> list[Figure]:
    """Every figure there is something to show for: `id`, `title`, `text`, `data`, `layout`."""
    folders = artifact_folders(standing.directory)
    made = [
        pareto(standing, phases),
        best_so_far(standing, phases),
        _or_why("map", "Map of cells", embedding_map, standing, parts, folders),
        _or_why("predicted", "Predicted against measured", predicted, standing, parts, folders),
        encoder_training(folders),
    ]
    return [figure for figure in made if figure is not None]


def pareto(standing: Standing, phases: Mapping[str, str]) -> Figure | None:
    """Accuracy against MACs, by phase, with the front that no trial beats in both, and the winner."""
    points = [(k, trial) for k, trial in enumerate(standing.all_trials) if trial.done and "macs" in trial.metrics]
    if not points:
        return None
    names = dict.fromkeys(phases.get(trial.key, "other") for _, trial in points)
    data = [
        _dots(name, [(k, trial.metrics["macs"] / 1e6, 100 * trial.metrics["val_acc"]) for k, trial in points
                     if phases.get(trial.key, "other") == name])
        for name in names
    ]  # fmt: skip
    front = pareto_front([(trial.metrics["macs"] / 1e6, 100 * trial.metrics["val_acc"]) for _, trial in points])
    data.append(_line("Pareto front", front, shape="hv"))
    if standing.ranking:
        best = standing.best()[0]
        place = next(k for k, trial in points if trial.key == best.key)
        data.append(_dots("best", [(place, best.metrics["macs"] / 1e6, 100 * best.metrics["val_acc"])], star=True))
    return _figure("pareto", "Accuracy against cost", "MACs (M)", "validation accuracy (%)", data,
                   "Each point is a measured cell; the line joins those that no other beats in both.")  # fmt: skip


def pareto_front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points (cost, gain) that no other beats in one and equals in the other, by rising cost."""
    front: list[tuple[float, float]] = []
    for cost, gain in sorted(points, key=lambda point: (point[0], -point[1])):
        if not front or gain > front[-1][1]:
            front.append((cost, gain))
    return front


def best_so_far(standing: Standing, phases: Mapping[str, str]) -> Figure | None:
    """Scores in the order in which trials ended, and the highest until then."""
    points = [(k, standing.objective.score(trial.metrics)) for k, trial in enumerate(standing.all_trials) if trial.done]
    if not points:
        return None
    names = dict.fromkeys(phases.get(standing.all_trials[k].key, "other") for k, _ in points)
    data = [
        _dots(name, [(k, k + 1, score) for k, score in points
                     if phases.get(standing.all_trials[k].key, "other") == name])
        for name in names
    ]  # fmt: skip
    steps = [(k, score) for k, score in points if standing.objective.accepts(standing.all_trials[k].metrics)]
    front = pareto_front([(k + 1, score) for k, score in steps])
    if front:
        front.append((len(standing.all_trials), front[-1][1]))
    data.append(_line("best so far", front, shape="hv"))
    return _figure("progress", "Best so far", "trials", "score", data, "In the order in which trainings ended.")


def embedding_map(standing: Standing, parts: Parts, folders: Mapping[str, Path]) -> Figure | None:
    """Measured and random cells in the plane of their embeddings' first two principal components."""
    done = [(k, trial) for k, trial in enumerate(standing.all_trials) if trial.done]
    done = done[:: math.ceil(len(done) / MAPPED)] if done else []
    if len(done) < 3:
        return None
    random = parts.space.sample(CANDIDATES, generator())
    graphs = parts.space.batch([*(parts.space.arch(trial.arch) for _, trial in done), *random])
    embeds = "encoder" in folders
    vectors = _encoder(parts, folders).embed(graphs).astype(np.float64) if embeds else wl_vectors(graphs)
    plane, share = principal_plane(vectors)
    scores = np.array([standing.objective.score(trial.metrics) for _, trial in done])
    guesses = _guesses(parts, folders, graphs, scores)
    measured, others = plane[: len(done)].round(4), plane[len(done) :].round(4)
    scale = {"colorscale": "Viridis", "cmin": float(scores.min()), "cmax": float(scores.max())}
    bar = {"showscale": True, "colorbar": {"title": {"text": "score"}, "thickness": 12}}
    dots = _dots("measured", [(k, *place) for (k, _), place in zip(done, measured.tolist())])
    data = [
        {"type": "scatter", "mode": "markers", "name": f"{len(random)} random cells", "hoverinfo": "skip",
         "x": others[:, 0].tolist(), "y": others[:, 1].tolist(),
         "marker": {"size": 4, "color": "#8886"} if guesses is None else
                   {"size": 4, "opacity": 0.5, "color": guesses.round(5).tolist(), **scale}},
        dots | {"marker": {"size": 9, "color": scores.round(5).tolist(), "line": {"width": 1, "color": "#888"},
                          **scale, **bar}},
    ]  # fmt: skip
    what = "embeddings" if embeds else "Weisfeiler-Lehman labels (this study has no encoder)"
    text = f"Principal components of the cells' {what}; both hold {100 * share:.0f} % of the variance."
    if guesses is not None:
        text += " Small points are random cells in the colour of their predicted score."
    return _figure("map", "Map of cells", "first component", "second component", data, text)


def predicted(standing: Standing, parts: Parts, folders: Mapping[str, Path]) -> Figure | None:
    """Predicted against measured scores: finalists before they were measured, the others by cross-validation."""
    from scipy.stats import kendalltau

    place = {trial.key: k for k, trial in enumerate(standing.all_trials)}
    data, notes = [], []
    for name, found in (("finalists", _of_finalists(standing, folders)), ("others", _folds(standing, parts, folders))):
        points = [(place[trial.key], guess, standing.objective.score(trial.metrics)) for trial, guess in found]
        if len(points) < 2:
            continue
        tau = kendalltau([guess for _, guess, _ in points], [score for _, _, score in points]).statistic
        how = "before they were measured" if name == "finalists" else f"from the rest of them, in {FOLDS} folds"
        notes.append(f"{len(points)} {name} predicted {how}: Kendall tau {tau:.2f}.")
        data.append(_dots(name, points))
    if not data:
        return None
    ends = [bound(value for trace in data for value in trace[axis]) for bound in (min, max) for axis in ("x", "y")]
    data.append(_line("equal", [(min(ends), min(ends)), (max(ends), max(ends))], dash="dot"))
    text = " ".join(notes)
    return _figure("predicted", "Predicted against measured", "predicted score", "measured score", data, text)


def encoder_training(folders: Mapping[str, Path]) -> Figure | None:
    """The encoder's loss over its training when the artifact holds it, and its figures on held-out graphs."""
    folder = folders.get("encoder")
    if folder is None:
        return None
    held_out, losses = _json(folder / "report.json"), _json(folder / "losses.json")
    data = [{"type": "scatter", "mode": "lines", "name": name, "hoverinfo": "x+y", "y": values}
            for name, values in (losses or {}).items()]  # fmt: skip
    text = ", ".join(f"{name.replace('_', ' ')} {value:.3f}" for name, value in (held_out or {}).items())
    if not data and not text:
        return None
    return _figure("encoder", "Encoder", "step", "loss", data, f"On graphs it was not trained on: {text}." * bool(text))


def artifact_folders(directory: Path) -> dict[str, Path]:
    """The folders of a study's artifacts by name, rounds of one name by `name-round`."""
    root = directory / "artifacts"
    folders = sorted(folder for folder in root.iterdir() if folder.is_dir()) if root.is_dir() else []
    return {folder.name.rpartition("-")[0]: folder for folder in folders if not folder.name.startswith(".")}


def principal_plane(vectors: Floats) -> tuple[Floats, float]:
    """The first two principal components of vectors [N, p] as [N, 2], and their share of the variance."""
    centred = vectors - vectors.mean(0)
    values, axes = np.linalg.eigh(centred.T @ centred)
    axes = axes[:, [-1, -2]]
    axes = axes * np.where(axes[np.abs(axes).argmax(0), [0, 1]] < 0, -1, 1)  # a sign that does not depend on chance
    return centred @ axes, float(values[-2:].sum() / max(values.sum(), 1e-12))


def wl_vectors(graphs: Any) -> Floats:
    """The scaled counts of the most frequent WL labels of graphs [N, p]."""
    from . import wl

    counts = wl.scaled(wl.features(graphs, h=2)).tocsc()
    frequent = np.argsort(-np.diff(counts.indptr), kind="stable")[:COLUMNS]
    return np.asarray(counts[:, np.sort(frequent)].toarray(), np.float64)


def _of_finalists(standing: Standing, folders: Mapping[str, Path]) -> list[tuple[Trial, float]]:
    guesses = {row["arch_key"]: float(row["mean"]) for name, folder in folders.items()
               if name.startswith("prediction") for row in _json(folder / "prediction.json") or ()}  # fmt: skip
    phases = [trials for name, trials in standing.measured.items() if name.startswith("finalists")]
    finalists = [trial for trials in phases for trial in trials]
    return [(trial, guesses[trial.arch_key]) for trial in finalists if trial.done and trial.arch_key in guesses]


def _folds(standing: Standing, parts: Parts, folders: Mapping[str, Path]) -> list[tuple[Trial, float]]:
    """Each trial of the first phase with its score as predicted from other folds."""
    settings = getattr(parts.strategy, "predictor", None)
    trials = [trial for trial in standing.trials_of("measured") if trial.done]
    if settings is None or not FEWEST <= len(trials) <= MOST:
        return []
    from .predictor import build_predictor

    encoder = _encoder(parts, folders)
    archs = [parts.space.arch(trial.arch) for trial in trials]
    scores = np.array([standing.objective.score(trial.metrics) for trial in trials])
    fold, found = np.random.default_rng(0).permutation(len(archs)) % FOLDS, np.empty(len(archs))
    for k in range(FOLDS):
        predictor = build_predictor(settings, encoder, k)
        predictor.fit(parts.space.batch([arch for arch, f in zip(archs, fold) if f != k]), scores[fold != k])
        found[fold == k] = predictor.predict(parts.space.batch([arch for arch, f in zip(archs, fold) if f == k]))[0]
    return list(zip(trials, found.tolist()))


def _guesses(parts: Parts, folders: Mapping[str, Path], graphs: Any, scores: Floats) -> "Floats | None":
    """Scores of the graphs behind the measured ones, as the strategy's predictor sees them; None without one."""
    settings = getattr(parts.strategy, "predictor", None)
    if settings is None or not FEWEST <= len(scores) <= MOST:
        return None
    from .predictor import build_predictor

    predictor = build_predictor(settings, _encoder(parts, folders), 0)
    predictor.fit(graphs[: len(scores)], scores)
    return np.asarray(predictor.predict(graphs[len(scores) :])[0], np.float64)


def _encoder(parts: Parts, folders: Mapping[str, Path]) -> Any:
    """The study's encoder, or what stands in its place when it has none."""
    from .embedding import Encoder
    from .strategies.nasgem import Unembedded

    if "encoder" in folders:
        return Encoder.load(folders["encoder"], parts.space)
    return Unembedded(parts.space.vocabulary)


def _or_why(
    name: str,
    title: str,
    make: Callable[[Standing, Parts, Mapping[str, Path]], Figure | None],
    standing: Standing,
    parts: Parts,
    folders: Mapping[str, Path],
) -> Figure | None:
    """A figure that needs a study's artifacts, or what keeps it from being drawn: another version, damage."""
    try:
        return make(standing, parts, folders)
    except GemnetError as error:
        why = str(error).replace(f"{standing.directory}/", "")
        return _figure(name, title, "", "", [], f"Not drawn: {why}.")


def _dots(name: str, points: Sequence[tuple[int, float, float]], star: bool = False) -> dict[str, Any]:
    """A trace of trials; points are (number of the trial, x, y)."""
    dots = {"size": 7, "opacity": 0.75} if len(points) < MANY else {"size": 4, "opacity": 0.5}
    marker = {"symbol": "star", "size": 16} if star else dots
    columns = list(zip(*points)) or [(), (), ()]
    return {
        "type": "scatter", "mode": "markers", "name": name, "marker": marker, "hoverinfo": "none",
        "customdata": list(columns[0]), "x": [_brief(x) for x in columns[1]], "y": [_brief(y) for y in columns[2]],
    }  # fmt: skip


def _line(name: str, points: Sequence[tuple[float, float]], **line: str) -> dict[str, Any]:
    """A trace that joins points (x, y)."""
    return {
        "type": "scatter", "mode": "lines", "name": name, "hoverinfo": "skip", "line": {"width": 1.5, **line},
        "x": [_brief(x) for x, _ in points], "y": [_brief(y) for _, y in points],
    }  # fmt: skip


def _brief(value: float) -> float:
    return float(f"{value:.6g}")


def _figure(name: str, title: str, x: str, y: str, data: list[dict[str, Any]], text: str) -> Figure:
    layout = {"xaxis": {"title": {"text": x}}, "yaxis": {"title": {"text": y}}}
    return {"id": name, "title": title, "text": text, "data": data, "layout": layout}


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
