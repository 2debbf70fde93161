"""SageMaker's HTTP contract as a Flask application.

https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-inference-code.html
"""

from functools import partial

from flask import Flask, Response, request
from werkzeug.exceptions import ServiceUnavailable

from container.serving import page
from container.serving.intake import Intake
from container.serving.invocation import Call, Model
from container.serving.models import model_routes
from container.serving.models.loading import Loading
from container.serving.models.model_table import ModelTable
from container.serving.openapi import description
from container.serving.reports import error_response, json_response
from container.serving.settings import THREADS_FOR_PINGS, Settings
from container.serving.telemetry import Telemetry

ATTRIBUTES = "X-Amzn-SageMaker-Custom-Attributes"
MAX_CONCURRENT_TRANSFORM_MB = 100
"""Batch transform refuses MaxConcurrentTransforms x MaxPayloadInMB above it."""


def create_app(served: Loading | ModelTable, settings: Settings) -> Flask:
    """The application, for one model that is loading or for many that come and go.

    It answers pings at once, and invocations once the model is there.
    """
    app = Flask(__name__, static_folder=None)
    # One more than allowed: Werkzeug cuts a chunked body off at its limit without a word.
    app.config["MAX_CONTENT_LENGTH"] = settings.max_payload + 1
    intake = Intake(settings.threads - THREADS_FOR_PINGS, settings.max_payload)
    telemetry = Telemetry()
    telemetry.install(app)
    description.install(app, multi_model=isinstance(served, ModelTable))

    def invoke(model: Model) -> Response:
        with intake.request() as read_body:
            reply = model.reply(
                Call(
                    request.content_type,
                    request.accept_mimetypes,
                    request.headers.get(ATTRIBUTES, ""),
                    read_body,
                )
            )
        telemetry.images.observe(reply.images)
        # Names in archives need not be text.
        body = reply.body.encode("utf-8", "replace") if isinstance(reply.body, str) else reply.body
        return Response(body, mimetype=reply.media_type)

    if isinstance(served, ModelTable):
        table = served
        telemetry.watch(lambda: intake.running, table, table.classifiers)

        @app.get("/ping")
        def alive() -> Response:
            """Always ready: models are loaded when SageMaker asks for it."""
            return json_response({"status": "ready", "models": len(table)}, 200)

        app.register_blueprint(model_routes.create(table, intake, invoke))
    else:
        loading = served
        if settings.page:
            app.register_blueprint(page.create(loading, settings.max_payload))
        telemetry.watch(lambda: intake.running, loading, loading.classifiers)

        @app.get("/ping")
        def ping() -> Response:
            """Whether the model has answered; SageMaker sends traffic after the first 200."""
            if loading.model is None:
                return json_response({"status": "loading"}, 503)
            return json_response({"status": "ready", "engine": loading.model.description}, 200)

        @app.post("/invocations")
        def invocations() -> Response:
            """Classify the image or images in the body."""
            model = loading.model
            if model is None:
                raise ServiceUnavailable("The model is still loading; try again.", retry_after=1)
            return invoke(model)

        @app.get("/execution-parameters")
        def execution_parameters() -> Response:
            """What suits a batch transform job."""
            return json_response(transform_parameters(settings), 200)

    invoked_at = "/models/NAME/invoke" if isinstance(served, ModelTable) else "/invocations"
    app.register_error_handler(Exception, partial(error_response, invoked_at=invoked_at))
    return app


def transform_parameters(settings: Settings) -> dict[str, object]:
    """What batch transform asks for; what the user has set in the job goes before it."""
    megabytes = settings.max_payload // 2**20
    concurrent = settings.concurrent_transforms or settings.threads // 2
    return {
        "MaxConcurrentTransforms": min(concurrent, MAX_CONCURRENT_TRANSFORM_MB // megabytes),
        # One object is one request; records that a job's SplitType makes are joined by the job
        # itself, and answered record by record, whatever is said here.
        "BatchStrategy": settings.batch_strategy,
        "MaxPayloadInMB": megabytes,
    }
