"""`launch.py push`: the image, built and put where jobs find it."""

import argparse

from launcher import image
from launcher.session import Session

HELP = "build the image, and for SageMaker push it to ECR"


def add(parser: argparse.ArgumentParser) -> None:
    """The command's own options."""
    parser.add_argument("--name", default="kennel", help="of the image and the repository (kennel)")
    parser.add_argument(
        "--tag",
        default="latest",
        help="version of the image; one that had this tag before loses it (latest)",
    )
    parser.add_argument(
        "--pretrained", metavar="NAMES", help="ImageNet weights to put inside: resnet18,resnet50"
    )
    parser.add_argument(
        "--base-image", metavar="IMAGE", help="what the image starts from (the Dockerfile's)"
    )


def run(session: Session, options: argparse.Namespace) -> int:
    """Run the script; later commands use the image that it made."""
    given = image.arguments(
        name=options.name,
        tag=options.tag,
        region=session.settings.region,
        pretrained=options.pretrained,
        base_image=options.base_image,
        local=not session.backend.paid,
    )
    if options.dry_run:
        given.append("--dry-run")
    address = image.push(given, profile=session.settings.aws_profile)
    if options.dry_run:
        session.console.say(address)
        return 0
    session.remember(image=address)
    session.console.say(f"The image is {address}.")
    if (other := session.settings.image) and other != address:
        session.console.say(
            f"Commands go on using {other}, which --image, KENNEL_IMAGE or kennel.toml names."
        )
    session.console.result({"image": address})
    session.console.next(("./launch.py train --data FOLDER", "train with it"))
    return 0
