"""Which tensors each value of the hyperparameter `debug` saves, and how often. Stdlib only.

Names are smdebug's and AWS's: `losses`, `gradients`, `weights`, `biases`, `relu_output`. Everything
but losses, labels and predictions is saved as reductions: a step of a ResNet-18's raw gradients is
45 MB, the same as reductions 60 KB.
"""

from typing import Any

Collections = dict[str, dict[str, str]]
"""The parameters of each collection, as strings, as SageMaker's API has them."""

_NEVER = "1000000000"
_REDUCTIONS = "mean,std,min,max,abs_mean,abs_max,l2_norm"
_FIRST_STEPS = ",".join(str(step) for step in range(10))
"""Rules on the initialisation look at the first ten steps."""

_EVERY_50 = {"train.save_interval": "50", "eval.save_interval": _NEVER}
_EVERY_100 = {"train.save_interval": "100", "eval.save_interval": _NEVER}
_SUMMARY = {**_EVERY_50, "reductions": _REDUCTIONS}
_LOSSES = {"train.save_interval": "10", "eval.save_interval": "1"}

_STANDARD: Collections = {
    "losses": _LOSSES,
    "gradients": {**_SUMMARY, "train.save_steps": _FIRST_STEPS},
    "weights": _SUMMARY,
    "biases": _SUMMARY,
    # How far each weight has moved since it was last saved, as a share of its length.
    "updates": {**_EVERY_50, "include_regex": "^update/"},
    # What the loss was given: one row of scores for each image, and the images' classes.
    "predictions": {
        "include_regex": "^CrossEntropyLoss_input_0",
        "train.save_interval": "50",
        "eval.save_interval": "1",
    },
    "labels": {
        "include_regex": "^CrossEntropyLoss_input_1",
        "train.save_interval": "10",
        "eval.save_interval": "1",
    },
    "inputs": {**_EVERY_50, "include_regex": "^ResNet_input_0", "reductions": "mean,std,min,max"},
    "relu_activity": {**_EVERY_50, "include_regex": "relu_activity_"},
}

PRESETS: dict[str, Collections] = {
    "losses": {"losses": _LOSSES},
    "standard": _STANDARD,
    "full": {
        **_STANDARD,
        "batchnorm_output": {
            **_EVERY_100,
            "train.save_steps": _FIRST_STEPS,
            # The shortcuts' normalisations are called `downsample.1`.
            "include_regex": r"(bn\d|downsample\.1)_output_",
            "reductions": "mean,std,min,max",
        },
        "relu_output": {
            **_EVERY_100,
            "include_regex": "relu_output_",
            "reductions": "mean,std,max",
        },
    },
}
"""The collections that each value of the hyperparameter `debug` saves."""


def configuration(preset: str) -> dict[str, Any] | None:
    """A preset in the form of SageMaker's `debughookconfig.json`; None where nothing is saved."""
    if preset not in PRESETS:
        return None
    return {
        "S3OutputPath": "",
        "CollectionConfigurations": [
            {"CollectionName": name, "CollectionParameters": parameters}
            for name, parameters in PRESETS[preset].items()
        ],
    }
