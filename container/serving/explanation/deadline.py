"""How long an explanation may take."""

from werkzeug.exceptions import ServiceUnavailable

SECONDS = 30.0
"""SageMaker gives up on a request after 60."""


class TooSlow(ServiceUnavailable):
    """This machine does not explain this model in time in this way."""

    description = (
        f"This explanation takes more than {SECONDS:.0f} s on this machine; explain=cam takes as "
        "long as a prediction."
    )
