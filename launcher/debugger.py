"""Amazon SageMaker Debugger, for accounts that still have it; it is closed to new customers.

Kennel's own hooks and rules live in the image and need none of this.
"""

from typing import Any

from container.errors import UserError
from launcher import aws_images

COLLECTIONS = {
    "losses": {"save_interval": "100"},
    "gradients": {"save_interval": "500"},
    "relu_input": {"save_interval": "500", "include_regex": ".*relu_input"},
}
RULES = (
    "LossNotDecreasing",
    "VanishingGradient",
    "Overfit",
    "Overtraining",
    "PoorWeightInitialization",
)
PROFILER_RULES = ("LowGPUUtilization", "ProfilerReport")
PROFILER_MILLISECONDS = 500


def members(region: str, output: str) -> dict[str, Any]:
    """What `CreateTrainingJob` takes for hooks, rules and profiler. Raises UserError."""
    image = rule_image(region)
    return {
        "DebugHookConfig": {
            "S3OutputPath": output,
            "CollectionConfigurations": [
                {"CollectionName": name, "CollectionParameters": parameters}
                for name, parameters in COLLECTIONS.items()
            ],
        },
        "DebugRuleConfigurations": [_rule(name, image) for name in RULES],
        "ProfilerConfig": {
            "S3OutputPath": output,
            "ProfilingIntervalInMilliseconds": PROFILER_MILLISECONDS,
        },
        "ProfilerRuleConfigurations": [_rule(name, image) for name in PROFILER_RULES],
    }


def _rule(name: str, image: str) -> dict[str, Any]:
    return {
        "RuleConfigurationName": name,
        "RuleEvaluatorImage": image,
        "RuleParameters": {"rule_to_invoke": name},
    }


def rule_image(region: str) -> str:
    """AWS's image that evaluates rules, which is in another account in every region.

    Raises:
        UserError: SageMaker's SDK, which knows the accounts, is missing, or the region has none.
    """
    registries = aws_images.table("debugger", "--aws-debugger")["versions"]["latest"]["registries"]
    if region not in registries:
        raise UserError(f"SageMaker Debugger is not offered in {region}; leave out --aws-debugger.")
    return aws_images.address(registries[region], region, "sagemaker-debugger-rules:latest")
