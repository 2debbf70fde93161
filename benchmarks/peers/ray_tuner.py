"""Ray Tune over a plain function: `ray_tuner.py DATA WEIGHTS ARCHITECTURE EPOCHS TRIALS MODE`.

`plain` is the loop that tutorials start from: the whole network in every epoch of every trial.
`features` is what one can write by hand to spare that: the frozen layers once, before the trials,
which then train a head on what they gave. It has no augmentation, artifact or report.
"""

import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")

import ray
import torch
from ray import tune
from ray.tune.search.optuna import OptunaSearch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torchvision import datasets, models, transforms

AT_ONCE = 2
MOMENTUM = 0.9
SPACE = {"lr": tune.loguniform(1e-4, 1e-1), "batch_size": tune.choice([32, 64, 128])}
PREPARE = transforms.Compose(
    [
        transforms.Resize(256),
        transforms.CenterCrop(224),
        transforms.ToTensor(),
        transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    ]
)


def fit(
    config: dict[str, Any],
    *,
    train: Any,
    validation: Any,
    network: Callable[[], nn.Module],
    epochs: int,
) -> None:
    """One trial: SGD with momentum, and the accuracy after every epoch."""
    torch.manual_seed(0)
    model = network()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=config["lr"], momentum=MOMENTUM)
    criterion = nn.CrossEntropyLoss()
    for _ in range(epochs):
        model.train()
        for batch, labels in DataLoader(train, batch_size=config["batch_size"], shuffle=True):
            optimizer.zero_grad()
            criterion(model(batch), labels).backward()
            optimizer.step()
        model.eval()
        right = 0
        with torch.no_grad():
            for batch, labels in DataLoader(validation, batch_size=64):
                right += int((model(batch).argmax(1) == labels).sum())
        tune.report({"accuracy": right / len(validation)})


def backbone(weights: Path, architecture: str) -> nn.Module:
    """The network with frozen weights."""
    network: nn.Module = models.get_model(architecture)
    network.load_state_dict(torch.load(weights, weights_only=True))
    for parameter in network.parameters():
        parameter.requires_grad = False
    return network


def features(network: nn.Module, images: Any) -> TensorDataset:
    """What the frozen layers make of each image, as it is."""
    network.eval()
    found, labels = [], []
    with torch.inference_mode():
        for batch, truth in DataLoader(images, batch_size=32):
            found.append(network(batch))
            labels.append(truth)
    return TensorDataset(torch.cat(found).clone(), torch.cat(labels))


def main(data: Path, weights: Path, architecture: str, epochs: int, trials: int, mode: str) -> None:
    """Tune, and print how many trials were measured and the best accuracy."""
    train, validation = (
        datasets.ImageFolder(str(data / split), PREPARE) for split in ("train", "validation")
    )
    classes, width = len(train.classes), 512 if architecture == "resnet18" else 2048
    network: Callable[[], nn.Module]
    if mode == "features":
        frozen = backbone(weights, architecture)
        frozen.fc = nn.Identity()
        train, validation = features(frozen, train), features(frozen, validation)

        def network() -> nn.Module:
            return nn.Linear(width, classes)
    else:

        def network() -> nn.Module:
            whole = backbone(weights, architecture)
            whole.fc = nn.Linear(width, classes)
            return whole

    ray.init(num_cpus=AT_ONCE, include_dashboard=False, log_to_driver=False)
    trial = tune.with_parameters(
        fit, train=train, validation=validation, network=network, epochs=epochs
    )
    config = tune.TuneConfig(
        metric="accuracy",
        mode="max",
        num_samples=trials,
        max_concurrent_trials=AT_ONCE,
        search_alg=OptunaSearch(seed=0),
    )
    with tempfile.TemporaryDirectory(prefix="kennel-ray-") as place:
        run = tune.RunConfig(storage_path=place)  # else in the user's home
        tuner = tune.Tuner(trial, param_space=SPACE, tune_config=config, run_config=run)
        found = [result.metrics for result in tuner.fit() if result.metrics]
    measured = [metrics["accuracy"] for metrics in found if "accuracy" in metrics]
    print(json.dumps({"trials": len(measured), "accuracy": max(measured)}))


if __name__ == "__main__":
    _, data, weights, architecture, epochs, trials, mode = sys.argv
    main(Path(data), Path(weights), architecture, int(epochs), int(trials), mode)
