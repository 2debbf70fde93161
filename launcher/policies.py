"""The smallest policies: for the person, for the role that SageMaker works as, for the Lambda."""

from collections.abc import Mapping, Sequence
from typing import Any

from launcher import arns
from launcher.names import stem

Policy = dict[str, Any]
_SCALING = "sagemaker.application-autoscaling.amazonaws.com"


def _policy(*statements: Mapping[str, Any]) -> Policy:
    return {"Version": "2012-10-17", "Statement": [dict(statement) for statement in statements]}


def _allow(actions: Sequence[str], *resources: str, **condition: Any) -> Policy:
    statement = {"Effect": "Allow", "Action": list(actions), "Resource": list(resources)}
    return statement | ({"Condition": condition} if condition else {})


def trust(service: str) -> Policy:
    """Who may work as a role: one service of AWS."""
    return _policy(
        {
            "Effect": "Allow",
            "Principal": {"Service": f"{service}.amazonaws.com"},
            "Action": "sts:AssumeRole",
        }
    )


def front(region: str, account: str, function: str, endpoint: str) -> Policy:
    """The Lambda: invoke one endpoint, write its own log, nothing else."""
    return _policy(
        _allow(
            ["sagemaker:InvokeEndpoint"],
            f"arn:{arns.partition(region)}:sagemaker:{region}:{account}:endpoint/{endpoint}",
        ),
        _allow(
            ["logs:CreateLogStream", "logs:PutLogEvents"],
            arns.log_group(region, account, f"/aws/lambda/{function}:*"),
        ),
    )


def worker(bucket: str, prefix: str, region: str, account: str) -> Policy:
    """The role that jobs and endpoints work as: its data, its image, its logs."""
    place = arns.bucket(region, bucket)
    return _policy(
        _allow(["s3:ListBucket"], place, StringLike={"s3:prefix": f"{prefix}/*"}),
        _allow(["s3:GetObject", "s3:PutObject"], f"{place}/{prefix}/*"),
        _allow(["s3:DeleteObject"], f"{place}/{prefix}/checkpoints/*"),
        _allow(
            ["ecr:BatchCheckLayerAvailability", "ecr:GetDownloadUrlForLayer", "ecr:BatchGetImage"],
            *arns.repositories(region, account),
        ),
        _allow(["ecr:GetAuthorizationToken"], "*"),
        _allow(
            [
                "logs:CreateLogGroup",
                "logs:CreateLogStream",
                "logs:DescribeLogStreams",
                "logs:PutLogEvents",
            ],
            arns.log_group(region, account, "/aws/sagemaker/*"),
        ),
        _allow(
            ["cloudwatch:PutMetricData"],
            "*",
            StringLike={"cloudwatch:namespace": ["/aws/sagemaker/*", "aws/sagemaker/*"]},
        ),
        # An update that goes back on an alarm is watched over by the endpoint's own role.
        _allow(["cloudwatch:DescribeAlarms"], arns.alarms(region, account)),
    )


def person(
    bucket: str, prefix: str, region: str, account: str, role_arn: str, project: str
) -> Policy:
    """The person at the command line: what the project's names begin with, and nothing else."""
    place = arns.bucket(region, bucket)
    function, front_role = arns.front(region, account, project)
    # A tuning's name has room for a part of the project's only, and its trials are named after it.
    searched = stem(project, "tuning")
    names = {
        "training-job": searched,
        "hyper-parameter-tuning-job": searched,
        "processing-job": project,
        "transform-job": project,
        "model": project,
        "endpoint-config": project,
        "endpoint": project,
        "inference-component": project,
    }
    sagemaker = f"arn:{arns.partition(region)}:sagemaker:{region}:{account}"
    return _policy(
        _allow(
            [
                "sagemaker:AddTags",
                "sagemaker:CreateEndpoint",
                "sagemaker:CreateEndpointConfig",
                "sagemaker:CreateHyperParameterTuningJob",
                "sagemaker:CreateInferenceComponent",
                "sagemaker:CreateModel",
                "sagemaker:CreateTrainingJob",
                "sagemaker:CreateTransformJob",
                "sagemaker:DeleteEndpoint",
                "sagemaker:DeleteEndpointConfig",
                "sagemaker:DeleteInferenceComponent",
                "sagemaker:DeleteModel",
                "sagemaker:DescribeEndpoint",
                "sagemaker:DescribeEndpointConfig",
                "sagemaker:DescribeHyperParameterTuningJob",
                "sagemaker:DescribeInferenceComponent",
                "sagemaker:DescribeModel",
                "sagemaker:DescribeTrainingJob",
                "sagemaker:DescribeTransformJob",
                "sagemaker:InvokeEndpoint",
                "sagemaker:InvokeEndpointAsync",
                "sagemaker:ListTags",
                "sagemaker:ListTrainingJobsForHyperParameterTuningJob",
                "sagemaker:StopHyperParameterTuningJob",
                "sagemaker:StopProcessingJob",
                "sagemaker:StopTrainingJob",
                "sagemaker:StopTransformJob",
                "sagemaker:UpdateEndpoint",
            ],
            *(f"{sagemaker}:{kind}/{start}*" for kind, start in names.items()),
        ),
        _allow(
            [
                "sagemaker:ListEndpointConfigs",
                "sagemaker:ListEndpoints",
                "sagemaker:ListHyperParameterTuningJobs",
                "sagemaker:ListInferenceComponents",
                "sagemaker:ListModels",
                "sagemaker:ListProcessingJobs",
                "sagemaker:ListTrainingJobs",
                "sagemaker:ListTransformJobs",
            ],
            "*",
        ),
        _allow(
            ["iam:PassRole"],
            role_arn,
            StringEquals={"iam:PassedToService": "sagemaker.amazonaws.com"},
        ),
        _allow(["s3:CreateBucket", "s3:ListBucket"], place),
        _allow(
            # What was uploaded in part and given up would be paid for.
            ["s3:AbortMultipartUpload", "s3:GetObject", "s3:PutObject"],
            f"{place}/{prefix}/*",
        ),
        # `status` and `delete` look for a Lambda, and take an endpoint out of scaling, whoever
        # may have made these.
        _allow(["lambda:GetFunction", "lambda:ListTags"], function),
        _allow(["iam:ListRoleTags"], front_role),
        _allow(
            [
                "application-autoscaling:DeregisterScalableTarget",
                "application-autoscaling:DescribeScalableTargets",
            ],
            "*",
        ),
        _allow(
            ["logs:DescribeLogStreams", "logs:GetLogEvents"],
            arns.log_group(region, account, "/aws/sagemaker/*"),
        ),
    )


def looking(region: str, account: str, role_arn: str) -> Policy:
    """What `doctor` needs besides, to look at all that it looks at."""
    return _policy(
        _allow(["iam:GetRole"], role_arn),
        _allow(["ecr:DescribeImages"], *arns.repositories(region, account)),
        _allow(
            ["servicequotas:ListAWSDefaultServiceQuotas", "servicequotas:ListServiceQuotas"], "*"
        ),
    )


def clarifying(region: str, account: str, project: str) -> Policy:
    """What `explain --clarify` needs besides."""
    return _policy(
        _allow(
            [
                "sagemaker:AddTags",
                "sagemaker:CreateProcessingJob",
                "sagemaker:DescribeProcessingJob",
            ],
            f"arn:{arns.partition(region)}:sagemaker:{region}:{account}:processing-job/{project}*",
        ),
    )


def clarified(region: str, account: str, project: str) -> Policy:
    """What the role needs besides for `explain --clarify`: to ask the endpoint."""
    return _policy(
        _allow(
            ["sagemaker:DescribeEndpoint", "sagemaker:InvokeEndpoint"],
            f"arn:{arns.partition(region)}:sagemaker:{region}:{account}:endpoint/{project}*",
        ),
    )


def pushing(region: str, account: str) -> Policy:
    """What `push` needs besides."""
    return _policy(
        _allow(["ecr:GetAuthorizationToken"], "*"),
        _allow(
            [
                "ecr:BatchCheckLayerAvailability",
                "ecr:BatchGetImage",
                "ecr:CompleteLayerUpload",
                "ecr:CreateRepository",
                "ecr:DescribeImages",
                "ecr:DescribeRepositories",
                "ecr:InitiateLayerUpload",
                "ecr:PutImage",
                "ecr:PutLifecyclePolicy",
                "ecr:UploadLayerPart",
            ],
            *arns.repositories(region, account),
        ),
    )


def scaling_and_front(region: str, account: str, project: str) -> Policy:
    """What `autoscale` and `front` need besides."""
    function, role_arn = arns.front(region, account, project)
    sagemaker = f"arn:{arns.partition(region)}:sagemaker:{region}:{account}"
    linked = f"arn:{arns.partition(region)}:iam::{account}:role/aws-service-role"
    return _policy(
        _allow(
            [
                "application-autoscaling:PutScalingPolicy",
                "application-autoscaling:RegisterScalableTarget",
                "cloudwatch:DeleteAlarms",
                "cloudwatch:DescribeAlarms",
                "cloudwatch:PutMetricAlarm",
            ],
            "*",
        ),
        _allow(
            ["sagemaker:DescribeEndpointConfig", "sagemaker:UpdateEndpointWeightsAndCapacities"],
            f"{sagemaker}:endpoint/{project}*",
            f"{sagemaker}:endpoint-config/{project}*",
        ),
        _allow(["iam:CreateServiceLinkedRole"], f"{linked}/{_SCALING}/*"),
        _allow(
            [
                "iam:CreateRole",
                "iam:DeleteRole",
                "iam:DeleteRolePolicy",
                "iam:GetRole",
                "iam:PutRolePolicy",
                "iam:TagRole",
            ],
            role_arn,
        ),
        _allow(
            ["iam:PassRole"],
            role_arn,
            StringEquals={"iam:PassedToService": "lambda.amazonaws.com"},
        ),
        _allow(
            [
                "lambda:CreateAlias",
                "lambda:CreateFunction",
                "lambda:CreateFunctionUrlConfig",
                "lambda:DeleteFunction",
                "lambda:GetFunctionUrlConfig",
                "lambda:InvokeFunction",
                "lambda:InvokeFunctionUrl",
                "lambda:PublishVersion",
                "lambda:PutProvisionedConcurrencyConfig",
                "lambda:TagResource",
            ],
            function,
            f"{function}:*",
        ),
        _allow(
            [
                "logs:CreateLogGroup",
                "logs:DeleteLogGroup",
                "logs:PutRetentionPolicy",
                "logs:TagResource",
            ],
            arns.log_group(region, account, f"/aws/lambda/{project}-front*"),
        ),
    )


def all_of(*, bucket: str, prefix: str, region: str, role: str, project: str) -> dict[str, Policy]:
    """Every policy with the names of one account put in; `role` is the role's ARN."""
    parts = role.split(":")
    account = parts[4] if len(parts) > 4 else "ACCOUNT"
    return {
        "you": person(bucket, prefix, region, account, role, project),
        "you, for doctor": looking(region, account, role),
        "you, for push": pushing(region, account),
        "you, for autoscale and front": scaling_and_front(region, account, project),
        "you, for Clarify": clarifying(region, account, project),
        "the role": worker(bucket, prefix, region, account),
        "the role, for Clarify": clarified(region, account, project),
        "the role's trust": trust("sagemaker"),
    }
