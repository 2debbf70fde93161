"""The frozen layers as a fast function from images to what the trained layers see."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.models import ResNet

from container import openvino_resnet, processors
from container.images import Preprocessing
from container.model import as_arrays, normalise

BATCH_SIZE_ON_A_CPU = 8
BATCH_SIZE_ON_A_GPU = 256


@dataclass(frozen=True)
class Cut:
    """Where the frozen layers end."""

    name: str
    stages: int
    """Stages that are frozen; after all four the channels are averaged."""

    @classmethod
    def below(cls, trainable: str) -> "Cut":
        """The frozen layers of a training of the head, or of layer4 and the head."""
        return cls("features", 4) if trainable == "head" else cls("activations of layer3", 3)


class Backbone:
    """The frozen layers in float32 or bfloat16, as `precision` says.

    On a CPU they are an OpenVINO model, on a GPU the torch network itself.
    """

    def __init__(
        self,
        network: ResNet,
        architecture: str,
        preprocessing: Preprocessing,
        precision: str,
        cut: Cut,
    ) -> None:
        self._preprocessing = preprocessing
        self._stages = cut.stages
        self._run: Callable[[NDArray[np.uint8]], Tensor]
        self._network, self._architecture, self._precision = network, architecture, precision
        if next(network.parameters()).is_cuda:
            self.batch_size = BATCH_SIZE_ON_A_GPU
            network.eval()
            self.name = f"torch {precision}"
            self._run = self._run_torch
        else:
            self.batch_size = BATCH_SIZE_ON_A_CPU
            self.name = f"openvino {precision}"
            self._run = self._run_openvino
        self._bfloat16 = precision == "bfloat16"
        # Averages are few, and lose by rounding; activations were rounded when they were computed.
        self.dtype = torch.bfloat16 if self._bfloat16 and cut.stages < 4 else torch.float32

    @cached_property
    def _request(self) -> Any:
        """Compiled when it is first needed: a run whose features are all known needs it never."""
        model = openvino_resnet.build_model(
            self._architecture,
            self._preprocessing,
            as_arrays(self._network),
            batch=self.batch_size,
            head=False,
            stages=self._stages,
        )
        compiled = openvino_resnet.compile_model(
            model, precision=self._precision, threads=processors.available(), streams=1
        )
        return compiled.create_infer_request()

    def __call__(self, images: NDArray[np.uint8]) -> Tensor:
        """For at most `batch_size` images (N, size, size, 3) the features (N, channels), or the
        activations (N, height, width, channels) of the last frozen stage; type `dtype`.
        """
        return self._run(images)

    def _run_openvino(self, images: NDArray[np.uint8]) -> Tensor:
        # The graph has one batch size; what a short batch leaves over is computed for nothing.
        self._request.get_input_tensor().data[: len(images)] = images
        self._request.infer()
        rows = torch.from_numpy(self._request.get_output_tensor().data[: len(images)])
        return rows.to(self.dtype, copy=True)

    @torch.inference_mode()
    def _run_torch(self, images: NDArray[np.uint8]) -> Tensor:
        inputs = normalise(torch.from_numpy(images).cuda(), self._preprocessing)
        network = self._network
        stages = (network.layer1, network.layer2, network.layer3, network.layer4)
        with torch.autocast("cuda", torch.bfloat16, enabled=self._bfloat16):
            data = network.maxpool(network.relu(network.bn1(network.conv1(inputs))))
            for stage in stages[: self._stages]:
                data = stage(data)
            rows = (
                data.permute(0, 2, 3, 1) if self._stages < 4 else network.avgpool(data).flatten(1)
            )
        result: Tensor = rows.to("cpu", self.dtype).contiguous()
        return result
