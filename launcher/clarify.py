"""SageMaker Clarify's explanation of images, for accounts that still have it.

It is closed to new customers; Kennel's own explanations need none of it. The request is checked
against AWS's own models and was not run on a live account.
https://docs.aws.amazon.com/sagemaker/latest/dg/clarify-processing-job-configure-analysis.html
"""

import time
from typing import Any

from container.errors import UserError
from launcher import aws_images
from launcher.console import duration
from launcher.names import tags
from launcher.session import Session
from launcher.settings import Settings

INSTANCE_TYPE = "ml.m5.xlarge"
VOLUME_GB = 30
LONGEST_SECONDS = 24 * 3600
SEGMENTS = 20
"""Parts that an image is cut into; each is left out in turn with others."""
COMPACTNESS = 5
SAMPLES = 500
"""Combinations of parts asked about for each image: as many requests to the endpoint."""
OVER = ("Completed", "Failed", "Stopped")
CONFIG_FILE = "analysis_config.json"
_FOLDER = "/opt/ml/processing"


def analysis(endpoint: str) -> dict[str, Any]:
    """`analysis_config.json`: Shapley values of the parts of each image."""
    return {
        "version": "1.0",
        "dataset_type": "application/x-image",
        "predictor": {
            "endpoint_name": endpoint,
            "content_type": "image/jpeg",
            "accept_type": "text/csv",
        },
        "methods": {
            "shap": {
                "num_samples": SAMPLES,
                "image_config": {
                    "model_type": "IMAGE_CLASSIFICATION",
                    "num_segments": SEGMENTS,
                    "segment_compactness": COMPACTNESS,
                },
            },
            "report": {"name": "report", "title": f"What {endpoint} looks at"},
        },
    }


def request(
    settings: Settings, name: str, *, role: str, region: str, images: str, config: str, output: str
) -> dict[str, Any]:
    """`CreateProcessingJob`; images, config and output are addresses of folders."""
    return {
        "ProcessingJobName": name,
        "ProcessingInputs": [_input("dataset", images), _input("analysis_config", config)],
        "ProcessingOutputConfig": {
            "Outputs": [
                {
                    "OutputName": "analysis_result",
                    "S3Output": {
                        "S3Uri": output,
                        "LocalPath": f"{_FOLDER}/output",
                        "S3UploadMode": "EndOfJob",
                    },
                }
            ]
        },
        "ProcessingResources": {
            "ClusterConfig": {
                "InstanceCount": 1,
                "InstanceType": INSTANCE_TYPE,
                "VolumeSizeInGB": VOLUME_GB,
            }
        },
        "StoppingCondition": {"MaxRuntimeInSeconds": LONGEST_SECONDS},
        "AppSpecification": {"ImageUri": image(region)},
        "RoleArn": role,
        "Tags": tags(settings.project),
    }


def _input(name: str, address: str) -> dict[str, Any]:
    folder = "data" if name == "dataset" else "config"
    return {
        "InputName": name,
        "S3Input": {
            "S3Uri": address,
            "LocalPath": f"{_FOLDER}/input/{folder}",
            "S3DataType": "S3Prefix",
            "S3InputMode": "File",
            "S3DataDistributionType": "FullyReplicated",
            "S3CompressionType": "None",
        },
    }


def image(region: str) -> str:
    """Clarify's image. Raises UserError where the region has none."""
    found = aws_images.table("clarify", "--clarify")["processing"]["versions"]["1.0"]
    if region not in found["registries"]:
        raise UserError(f"SageMaker Clarify is not offered in {region}; leave out --clarify.")
    return aws_images.address(found["registries"][region], region, f"{found['repository']}:1.0")


def watch(session: Session, name: str) -> None:
    """Wait until the job is over. Raises UserError where it did not complete."""
    started = time.monotonic()
    while True:
        found = session.sagemaker.describe_processing_job(ProcessingJobName=name)
        if found["ProcessingJobStatus"] in OVER:
            break
        session.backend.patience.sleep(session.backend.patience.seconds)
    if found["ProcessingJobStatus"] != "Completed":
        reason = found.get("FailureReason") or found.get("ExitMessage") or "it was stopped"
        raise UserError(f"{name} did not complete: {reason}")
    session.console.say(f"{name}: completed after {duration(time.monotonic() - started)}.")
