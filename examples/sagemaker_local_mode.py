"""`python -m examples.sagemaker_local_mode IMAGE FOLDER`: SageMaker's own SDK runs Kennel's image.

The SDK's local mode needs Docker, docker-compose and the packages `sagemaker` and `docker`, but no
account: training on FOLDER (with `train` and `test` in it, as `examples.digits` writes it), an
endpoint that is asked about one image, and a batch transform of one class of FOLDER/test (the SDK
looks into no folders).
"""

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import boto3

# Read when the SDK is imported: no question to AWS about which machine this is.
os.environ.setdefault("AWS_EC2_METADATA_DISABLED", "true")
NOBODY = boto3.Session("nobody", "nothing", region_name="us-east-1")
HYPERPARAMETERS = {
    "weights": "none",
    "trainable": "all",
    "image-size": "32",
    "flip": "false",
    "epochs": "1",
}


def channel(name: str, folder: Path) -> dict[str, Any]:
    """One folder of images."""
    source = {"FileDataDistributionType": "FullyReplicated", "FileUri": folder.as_uri()}
    return {"ChannelName": name, "DataSource": {"FileDataSource": source}}


def run(image: str, data: Path, scratch: Path) -> dict[str, Any]:
    """Train, deploy, predict and transform; what each of them gave."""
    from sagemaker.core.local import LocalSession

    session = LocalSession(boto_session=NOBODY)
    session.config = {"local": {"local_code": True, "container_root": str(scratch)}}
    client, runtime = session.sagemaker_client, session.sagemaker_runtime_client
    client.create_training_job(
        TrainingJobName="kennel-local",
        AlgorithmSpecification={"TrainingImage": image, "TrainingInputMode": "File"},
        HyperParameters=HYPERPARAMETERS,
        InputDataConfig=[channel(name, data / name) for name in ("train", "test")],
        OutputDataConfig={"S3OutputPath": (scratch / "output").as_uri()},
        ResourceConfig={"InstanceType": "local", "InstanceCount": 1},
    )
    artifact = client.describe_training_job("kennel-local")["ModelArtifacts"]["S3ModelArtifacts"]
    client.create_model(
        ModelName="kennel-local",
        PrimaryContainer={"Image": image, "ModelDataUrl": artifact, "Environment": {}},
    )
    variant = {
        "VariantName": "AllTraffic",
        "ModelName": "kennel-local",
        "InitialInstanceCount": 1,
        "InstanceType": "local",
    }
    client.create_endpoint_config("kennel-local", [variant])
    client.create_endpoint("kennel-local", "kennel-local")
    try:
        path = sorted((data / "test").rglob("*.jpg"))[0]
        answer = runtime.invoke_endpoint(
            Body=path.read_bytes(), EndpointName="kennel-local", ContentType="image/jpeg"
        )
        prediction = json.loads(answer["Body"].read())
    finally:
        client.delete_endpoint("kennel-local")
    folder = path.parent.as_uri()
    source = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": folder}}
    client.create_transform_job(
        TransformJobName="kennel-local",
        ModelName="kennel-local",
        TransformInput={"DataSource": source, "ContentType": "image/jpeg"},
        TransformOutput={
            "S3OutputPath": (scratch / "transformed").as_uri(),
            "Accept": "application/json",
        },
        TransformResources={"InstanceType": "local", "InstanceCount": 1},
        BatchStrategy="SingleRecord",
    )
    answers = sorted((scratch / "transformed").rglob("*.out"))
    return {
        "artifact": artifact,
        "prediction": prediction,
        "images": len(list(path.parent.iterdir())),
        "transformed": len(answers),
    }


def main() -> None:
    """Read the command line."""
    image, folder = sys.argv[1:3]
    with tempfile.TemporaryDirectory(prefix="kennel-local-", ignore_cleanup_errors=True) as scratch:
        print(json.dumps(run(image, Path(folder).resolve(), Path(scratch)), indent=2))


if __name__ == "__main__":
    main()
