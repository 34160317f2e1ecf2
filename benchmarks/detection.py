"""Detection of blood cells with GEMNet features, beside mobilenetv2 features at equal MACs.

    python benchmarks/detection.py --data bccd.npz --work detection [--device cuda] [--part 1/2] [--quick]

A one-stage (RetinaNet) and a two-stage detector (Faster R-CNN) of torchvision on a feature pyramid over strides 8, 16
and 32, trained from scratch on the set's training images with one budget and scored on its test images once, by
COCO's AP over IoU 0.50 to 0.95 and AP50 (pycocotools). GEMNet's width is solved so that its features cost at most
as many MACs as those of the reference. Each finished training is kept in --work and not repeated; one of other data,
epochs or width is refused.

The data file holds JPEG bytes `jpeg`, cut at `off`, their `split` (train, val, test), `classes`, and boxes as
`box_image`, `box_xyxy`, `box_label`.
"""

import contextlib
import io
import json
import time
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import timm
import torch
from kept import read_kept, write_kept
from macs import count_macs
from PIL import Image
from result import print_table, write_result
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool, LastLevelP6P7

from gemnet.catalog import find_cell
from gemnet.cli_base import GemnetGroup
from gemnet.devices import accelerator
from gemnet.durable import file_sha256
from gemnet.errors import CellError
from gemnet.machine import DEVICES
from gemnet.scale import solve
from gemnet.train import seeded

REFERENCE = "mobilenetv2_050"
LEVELS = (2, 3, 4)  # features of stride 8, 16, 32
PYRAMID_CHS = 64  # heads that do not hide what the features cost
BOX_HEAD_CHS, BOXES_PER_IMAGE, PROPOSALS = 256, 128, {"train": 500, "test": 300}  # of the second stage
SMALLEST_ANCHOR = 16  # pixels at stride 8; a platelet has about 20 in images 320 pixels wide
DETECTORS, BACKBONES = ("retinanet", "faster_rcnn"), ("gemnet_a", REFERENCE)


@dataclass(frozen=True)
class Budget:
    """What every training gets."""

    width: int
    epochs: int
    batch_size: int = 4
    lr: float = 1e-3
    weight_decay: float = 0.05
    train_images: int | None = None
    test_images: int | None = None


@dataclass(frozen=True, eq=False)
class Sample:
    """An image [3, H, W] in [0, 1] with its boxes [N, 4] (x1, y1, x2, y2) and labels [N] from 1 on."""

    image: Tensor
    boxes: Tensor
    labels: Tensor

    def to(self, device: torch.device) -> "Sample":
        """The sample on a device."""
        return Sample(self.image.to(device), self.boxes.to(device), self.labels.to(device))


@click.group(cls=GemnetGroup, invoke_without_command=True)
@click.option("--data", type=click.Path(path_type=Path, exists=True, dir_okay=False), required=True, metavar="NPZ")
@click.option("--work", type=click.Path(path_type=Path, file_okay=False), required=True, help="Holds the results.")
@click.option("--epochs", default=30, show_default=True)
@click.option("--width", default=320, show_default=True, help="Of the images, in pixels.")
@click.option("--seeds", default=1, show_default=True)
@click.option("--device", type=click.Choice(DEVICES), default="auto", show_default=True)
@click.option("--threads", default=1, show_default=True)
@click.option("--part", default="1/1", show_default=True, metavar="K/N", help="Train every N-th from the K-th on.")
@click.option("--quick", is_flag=True, help="Some images, one epoch.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--json", "as_json", is_flag=True, help="Print the result as the last line.")
def main(
    data: Path, work: Path, epochs: int, width: int, seeds: int, device: str, threads: int, part: str, quick: bool,
    out: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Train, score and write zoo/results/detection.json."""
    torch.set_num_threads(threads)
    budget = Budget(160, 1, 4, train_images=8, test_images=4) if quick else Budget(width, epochs)
    asked = [(d, b, seed) for seed in range(1 if quick else seeds) for d in DETECTORS for b in BACKBONES]
    first, count = (int(number) for number in part.split("/"))
    settings = {"data_sha256": file_sha256(data), **asdict(budget)}
    where, splits = accelerator(device).device, dict[str, list[Sample]]()
    for job in asked[first - 1 :: count]:
        if read_kept(place(work, job), settings) is None:
            splits = splits or read(data, budget, where)
            row = measure(*job, splits, budget)
            write_kept(place(work, job), settings, row)
            click.echo(row, err=True)
    rows = [row for job in asked if (row := read_kept(place(work, job), settings)) is not None]
    if len(rows) < len(asked):
        click.echo(f"{len(rows)} of {len(asked)} trainings are done; the table follows when all are", err=True)
        return
    print_table(rows)
    result = write_result("detection", 0, rows, out, data="bccd", budget=vars(budget), pyramid_chs=PYRAMID_CHS)
    if as_json:
        click.echo(json.dumps(result))


def place(work: Path, job: tuple[str, str, int]) -> Path:
    """The file of a finished training."""
    return work / f"{'-'.join(map(str, job))}.json"


def read(path: Path, budget: Budget, device: torch.device) -> dict[str, list[Sample]]:
    """The training and test images on a device, resized, without degenerate boxes."""
    arrays = np.load(path, allow_pickle=False)
    limits = {"train": budget.train_images, "test": budget.test_images}
    splits: dict[str, list[Sample]] = {}
    for part, limit in limits.items():
        numbers = np.flatnonzero(arrays["split"] == part)[:limit]
        splits[part] = [read_sample(arrays, int(number), budget.width).to(device) for number in numbers]
    return splits


def read_sample(arrays: Any, number: int, width: int) -> Sample:
    """One image with its boxes."""
    first, last = arrays["off"][number : number + 2]
    picture = Image.open(io.BytesIO(arrays["jpeg"][first:last].tobytes())).convert("RGB")
    scale = width / picture.width
    picture = picture.resize((width, round(scale * picture.height)), Image.Resampling.BILINEAR)
    mine = arrays["box_image"] == number
    boxes = scale * torch.from_numpy(arrays["box_xyxy"][mine].astype(np.float32))
    labels = torch.from_numpy(arrays["box_label"][mine].astype(np.int64)) + 1  # 0 is the background
    whole = (boxes[:, 2:] > boxes[:, :2]).all(1)
    return Sample(torch.from_numpy(np.array(picture)).permute(2, 0, 1) / 255, boxes[whole], labels[whole])


class Pyramid(nn.Module):
    """Features of strides 8, 16, 32 and above, all of `out_channels` channels."""

    def __init__(self, body: nn.Module, chs: list[int], extra: Any) -> None:
        super().__init__()
        self.body, self.out_channels = body, PYRAMID_CHS
        self.fpn = FeaturePyramidNetwork(chs, PYRAMID_CHS, extra_blocks=extra)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        named = OrderedDict((str(k), feature) for k, feature in enumerate(self.body(images)))
        features: dict[str, Tensor] = self.fpn(named)
        return features


def build_body(name: str, size: tuple[int, int]) -> nn.Module:
    """Features of a backbone; those of a GEMNet are solved for the reference's MACs at that size."""
    if name == REFERENCE:
        return timm.create_model(name, features_only=True, out_indices=LEVELS)
    image = torch.zeros(1, 3, *size)
    limit, cell = count_macs(build_body(REFERENCE, size), image), find_cell(name)
    low, high = 10e6, 400e6
    while high - low > 5e5:
        middle = (low + high) / 2
        try:
            net = solve(cell, "imagenet", round(middle))
            body = timm.create_model("gemnet", cell=cell.to_dict(), net=net.to_dict(), features_only=True,
                                     out_indices=LEVELS)  # fmt: skip
            low, high = (middle, high) if count_macs(body, image) <= limit else (low, middle)
        except CellError:
            low = middle
    net = solve(cell, "imagenet", round(low))
    return timm.create_model("gemnet", cell=cell.to_dict(), net=net.to_dict(), features_only=True, out_indices=LEVELS)


def build_detector(name: str, body: Any, num_classes: int, size: tuple[int, int]) -> nn.Module:
    """A detector over a body's features; classes are counted with the background."""
    chs = body.feature_info.channels()
    images = {"min_size": min(size), "max_size": max(size)}
    if name == "retinanet":
        backbone = Pyramid(body, chs, LastLevelP6P7(PYRAMID_CHS, PYRAMID_CHS))
        starts = [SMALLEST_ANCHOR * 2**k for k in range(5)]
        sizes = tuple((start, int(start * 2 ** (1 / 3)), int(start * 2 ** (2 / 3))) for start in starts)
        anchors = AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * 5)
        return RetinaNet(backbone, num_classes, anchor_generator=anchors, **images)
    backbone = Pyramid(body, chs, LastLevelMaxPool())
    anchors = AnchorGenerator(tuple((SMALLEST_ANCHOR * 2**k,) for k in range(4)), ((0.5, 1.0, 2.0),) * 4)
    pool = MultiScaleRoIAlign(["0", "1", "2"], output_size=7, sampling_ratio=2)
    head = TwoMLPHead(PYRAMID_CHS * 7 * 7, BOX_HEAD_CHS)
    return FasterRCNN(
        backbone, None, rpn_anchor_generator=anchors, box_roi_pool=pool, box_head=head,
        box_predictor=FastRCNNPredictor(BOX_HEAD_CHS, num_classes), box_batch_size_per_image=BOXES_PER_IMAGE,
        rpn_post_nms_top_n_train=PROPOSALS["train"], rpn_post_nms_top_n_test=PROPOSALS["test"], **images,
    )  # fmt: skip


def measure(detector: str, backbone: str, seed: int, splits: dict[str, list[Sample]], budget: Budget) -> dict[str, Any]:
    """Trains one detector and scores it on the test images."""
    height, width = splits["train"][0].image.shape[1:]
    num_classes = int(max(sample.labels.max() for sample in splits["train"])) + 1
    device = splits["train"][0].image.device
    with seeded(seed, device):
        body = build_body(backbone, (height, width))
        macs, params = count_macs(body, torch.zeros(1, 3, height, width)), sum(p.numel() for p in body.parameters())
        model = build_detector(detector, body, num_classes, (height, width)).to(device)
        start = time.perf_counter()
        loss = train(model, splits["train"], budget, torch.Generator().manual_seed(seed))
    return {
        "detector": detector, "backbone": backbone, "seed": seed, "backbone_macs": macs, "backbone_params": params,
        # those of the second stage depend on what the first proposes
        "macs": count_macs(model, [splits["test"][0].image]), "params": sum(p.numel() for p in model.parameters()),
        **average_precision(model, splits["test"]),
        "train_loss": round(loss, 4), "train_s": round(time.perf_counter() - start, 1),
        "device": device.type,
    }  # fmt: skip


def train(model: nn.Module, samples: list[Sample], budget: Budget, rng: torch.Generator) -> float:
    """The mean loss of the last epoch."""
    steps = -(-len(samples) // budget.batch_size)
    optimizer = create_optimizer_v2(model, "adamw", lr=budget.lr, weight_decay=budget.weight_decay)
    schedule, _ = create_scheduler_v2(
        optimizer, "cosine", budget.epochs * steps, warmup_epochs=2 * steps, warmup_lr=budget.lr / 100,
        step_on_epochs=False, updates_per_epoch=1,
    )  # fmt: skip
    model.train()
    step = 0
    for _ in range(budget.epochs):
        total = 0.0
        for numbers in torch.randperm(len(samples), generator=rng).tensor_split(steps):
            batch = [mirrored(samples[k]) if torch.rand((), generator=rng) < 0.5 else samples[k] for k in numbers]
            schedule.step_update(step)
            losses = model([s.image for s in batch], [{"boxes": s.boxes, "labels": s.labels} for s in batch])
            loss = sum(losses.values())
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            total, step = total + float(loss.detach()), step + 1
    return total / steps


def mirrored(sample: Sample) -> Sample:
    """The sample flipped left to right."""
    width = sample.image.shape[2]
    boxes = sample.boxes.clone()
    boxes[:, [0, 2]] = width - sample.boxes[:, [2, 0]]
    return Sample(sample.image.flip(2), boxes, sample.labels)


def average_precision(model: nn.Module, samples: list[Sample]) -> dict[str, float]:
    """AP and AP50 by pycocotools, in [0, 1]."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    model.eval()
    truth = COCO()
    boxes = [row for k, s in enumerate(samples) for row in annotations(k, s.boxes, s.labels)]
    classes = sorted({row["category_id"] for row in boxes})
    truth.dataset = {
        "images": [{"id": k} for k in range(len(samples))], "categories": [{"id": c} for c in classes],
        "annotations": [{**row, "id": k, "iscrowd": 0} for k, row in enumerate(boxes, start=1)],
    }  # fmt: skip
    found = []
    with torch.inference_mode():
        for k, sample in enumerate(samples):
            (output,) = model([sample.image])
            found += annotations(k, *(output[name].cpu() for name in ("boxes", "labels", "scores")))
    if not found:
        return {"ap": 0.0, "ap50": 0.0}
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        judged = COCOeval(truth, truth.loadRes(found), "bbox")
        judged.evaluate()
        judged.accumulate()
        judged.summarize()
    return {"ap": round(float(judged.stats[0]), 4), "ap50": round(float(judged.stats[1]), 4)}


def annotations(image: int, boxes: Tensor, labels: Tensor, scores: Tensor | None = None) -> Iterator[dict[str, Any]]:
    """Boxes as COCO writes them: x, y, width, height."""
    for k, ((x1, y1, x2, y2), label) in enumerate(zip(boxes.tolist(), labels.tolist())):
        width, height = x2 - x1, y2 - y1
        row = {"image_id": image, "category_id": label, "bbox": [x1, y1, width, height], "area": width * height}
        yield row if scores is None else {**row, "score": float(scores[k])}


if __name__ == "__main__":
    main()
