"""The full names of things in AWS, as policies and roles call them."""

_REPOSITORIES = ("kennel", "kennel-cpu")


def partition(region: str) -> str:
    """What the names of everything in a region begin with."""
    if region.startswith("cn-"):
        return "aws-cn"
    return "aws-us-gov" if region.startswith("us-gov-") else "aws"


def repositories(region: str, account: str) -> list[str]:
    """Where the image is, and the one that serves on processors only."""
    base = f"arn:{partition(region)}:ecr:{region}:{account}:repository"
    return [f"{base}/{name}" for name in _REPOSITORIES]


def bucket(region: str, name: str) -> str:
    """A bucket; what is in it begins with this and a slash."""
    return f"arn:{partition(region)}:s3:::{name}"


def log_group(region: str, account: str, name: str) -> str:
    """A log's group."""
    return f"arn:{partition(region)}:logs:{region}:{account}:log-group:{name}"


def alarms(region: str, account: str) -> str:
    """Every alarm of CloudWatch."""
    return f"arn:{partition(region)}:cloudwatch:{region}:{account}:alarm:*"


def front(region: str, account: str, project: str) -> tuple[str, str]:
    """The Lambda and its role."""
    name, place = f"{project}-front", partition(region)
    return (
        f"arn:{place}:lambda:{region}:{account}:function:{name}",
        f"arn:{place}:iam::{account}:role/{name}",
    )
