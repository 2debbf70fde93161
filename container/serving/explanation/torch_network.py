"""The network in torch, for its activations and its gradients; loaded when first asked for."""

import threading
import time
from pathlib import Path

import numpy as np
import torch
from captum.attr import IntegratedGradients
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from container import model, processors, torch_resnet
from container.artifact import Facts
from container.serving.engines.engine import Scores
from container.serving.explanation.activations import Activations, Square, weights_again
from container.serving.explanation.deadline import TooSlow
from container.serving.explanation.explanation import Explanation, winner

STEPS = 32
"""Points between the neutral image and the given one; Sundararajan et al. advise 20 to 300."""
AT_ONCE = 8
"""Points whose gradients are computed together; bounds the memory."""
CELLS = 14
"""Rows and columns of the map: a gradient for each pixel is noise, their sums are evidence."""


class TorchNetwork:
    """A float32 network of its own on this worker's device. Requests take turns."""

    def __init__(self, directory: Path, facts: Facts, slot: int) -> None:
        weights = weights_again(directory, facts)
        count = torch.cuda.device_count() if processors.nvidia_devices() else 0
        self._device = torch.device("cuda", slot % count) if count else torch.device("cpu")
        self._preprocessing = facts.preprocessing
        self.kernel = weights["fc.weight"].astype(np.float32)
        self.bias = weights["fc.bias"].astype(np.float32)
        network = torch_resnet.from_arrays(facts.architecture, len(facts.classes), weights)
        network.requires_grad_(False).to(self._device)
        self._network = network
        # torchvision's ResNet is a sequence up to its last convolution.
        self._backbone = nn.Sequential(*list(network.children())[:-2])
        self._turn = threading.Lock()

    def activations(self, square: Square) -> tuple[Scores, Activations]:
        """One pass, the head done by hand."""
        with self._turn, torch.inference_mode():
            activations = self._backbone(self._input(square))
            scores = self._network.fc(activations.mean((2, 3)))
            return scores[0].cpu().numpy(), activations[0].cpu().numpy()

    def integrated_gradients(
        self, square: Square, index: int | None, deadline: float
    ) -> Explanation:
        """The gradients of a class's score, summed on the way from ImageNet's mean colour to the
        image. Sundararajan et al., 2017, https://arxiv.org/abs/1703.01365

        Raises:
            TooSlow: `deadline`, a time of `time.monotonic`, has passed.
        """

        def forward(images: Tensor) -> Tensor:
            if time.monotonic() > deadline:
                raise TooSlow
            scores: Tensor = self._network(images)
            return scores

        with self._turn:
            image = self._input(square)
            neutral = torch.zeros_like(image)  # the mean colour, normalised
            with torch.inference_mode():
                scores = forward(torch.cat([image, neutral])).cpu().numpy()
            chosen = winner(scores[0], index)
            gradients = IntegratedGradients(forward).attribute(
                image, neutral, target=chosen, n_steps=STEPS, internal_batch_size=AT_ONCE
            )
        # The mean of the cells is the sum of all pixels' shares.
        pixels = gradients.sum(1) * gradients[0, 0].numel()
        cells = adaptive_avg_pool2d(pixels, CELLS)[0].float().cpu().numpy()
        return Explanation(
            "integrated-gradients", scores[0], chosen, cells, float(scores[1, chosen])
        )

    def _input(self, square: Square) -> Tensor:
        pixels = torch.from_numpy(square[np.newaxis].copy()).to(self._device)
        return model.normalise(pixels, self._preprocessing)
