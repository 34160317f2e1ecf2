"""What an exported file is asked to be."""

from dataclasses import dataclass
from typing import ClassVar

from gemnet.errors import ConfigError

OPSET = 20  # the exporter's own; others are converted, so what was asked for is read back from the file
INPUT, OUTPUT = "images", "logits"
FREE = ("batch", "height", "width")


@dataclass(frozen=True)
class Form:
    """The outside of an exported file.

    Args:
        image: C, H and W of one image.
        opset: version of the ONNX operators.
        dynamic: the axes that are free: of `batch`, `height`, `width`.
        as_bytes: whether the input is bytes [N, H, W, C] instead of normalised floats [N, C, H, W].
        least_side: smallest height and width the network takes.

    Raises:
        ConfigError: an axis that does not exist.
    """

    MAX_SIDE: ClassVar[int] = 4096

    image: tuple[int, int, int]
    opset: int = OPSET
    dynamic: tuple[str, ...] = ("batch",)
    as_bytes: bool = False
    least_side: int = 1

    def __post_init__(self) -> None:
        for name in self.dynamic:
            if name not in FREE:
                raise ConfigError(f"no axis {name!r} can be dynamic; allowed are {', '.join(FREE)}")

    @property
    def axes(self) -> tuple[str, ...]:
        """The input's axes in order."""
        return ("batch", "height", "width", "channels") if self.as_bytes else ("batch", "channels", "height", "width")

    @property
    def layout(self) -> tuple[int, int, int]:
        """The shape of one image as the input takes it."""
        return self.shaped(self.image[1], self.image[2])

    def shaped(self, height: int, width: int) -> tuple[int, int, int]:
        """The shape of one image of another size."""
        chans = self.image[0]
        return (height, width, chans) if self.as_bytes else (chans, height, width)

    @property
    def input_shape(self) -> list[str | int]:
        """The input's shape as the file must give it: a free axis by its name."""
        sizes: tuple[int, ...] = (1, *self.layout)
        return [name if name in self.dynamic else size for name, size in zip(self.axes, sizes)]

    def output_shape(self, num_classes: int) -> list[str | int]:
        """The output's shape as the file must give it."""
        return ["batch" if "batch" in self.dynamic else 1, num_classes]

    @property
    def batches(self) -> tuple[int, ...]:
        """Batch sizes to try."""
        return (1, 2, 5) if "batch" in self.dynamic else (1,)

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """Heights and widths to try: the file's own, and where they are free the smallest and a large uneven one."""
        _, height, width = self.image
        least = min(self.least_side, height, width)
        free = [name in self.dynamic for name in ("height", "width")]
        small = (least if free[0] else height, least if free[1] else width)
        large = (min(2 * height, self.MAX_SIDE) if free[0] else height,
                 min(2 * width - 1, self.MAX_SIDE) if free[1] else width)  # fmt: skip
        return list(dict.fromkeys([(height, width), small, large]))
