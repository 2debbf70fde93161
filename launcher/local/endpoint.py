"""Models, endpoint configurations and endpoints on this machine."""

import http.client
import shutil
import time
import urllib.request
from collections.abc import Mapping
from typing import Any

from container.errors import UserError
from launcher import records
from launcher.api import Call, check
from launcher.local import layout, multi_model, processes
from launcher.local.engines import engine
from launcher.local.jobs import (
    ENDPOINT,
    ENDPOINT_CONFIG,
    MODEL,
    JobsFolder,
    Resource,
    client_error,
    local_path,
    moment,
)

DEFAULT_START_SECONDS = 240
PING_SECONDS = 2.0
"""As long as SageMaker waits for an answer to a ping."""


class Endpoints:
    """The client's methods about models and endpoints."""

    folder: JobsFolder
    engine_name: str

    def create_model(self, **request: Any) -> dict[str, Any]:
        """Keep which image serves which artifact."""
        check(Call("sagemaker", "CreateModel", request), local=True)
        engine(self.engine_name).ready(request["PrimaryContainer"]["Image"])
        self.folder.create(MODEL, request)
        return {"ModelArn": self.folder.arn(MODEL, request["ModelName"])}

    def describe_model(self, **request: Any) -> dict[str, Any]:
        """What the model was made of."""
        return self._described(MODEL, request["ModelName"], "DescribeModel")

    def create_endpoint_config(self, **request: Any) -> dict[str, Any]:
        """Keep which models an endpoint serves, and how."""
        check(Call("sagemaker", "CreateEndpointConfig", request), local=True)
        for variant in request["ProductionVariants"]:
            self.folder.find(MODEL, variant["ModelName"], "CreateEndpointConfig")
        if len(request["ProductionVariants"]) > 1:
            message = "An endpoint on this machine has one variant."
            raise client_error("ValidationException", message, "CreateEndpointConfig")
        self.folder.create(ENDPOINT_CONFIG, request)
        name = request["EndpointConfigName"]
        return {"EndpointConfigArn": self.folder.arn(ENDPOINT_CONFIG, name)}

    def describe_endpoint_config(self, **request: Any) -> dict[str, Any]:
        """What the configuration was made of."""
        name = request["EndpointConfigName"]
        return self._described(ENDPOINT_CONFIG, name, "DescribeEndpointConfig")

    def create_endpoint(self, **request: Any) -> dict[str, Any]:
        """Start a server; it takes calls when `describe_endpoint` says InService."""
        check(Call("sagemaker", "CreateEndpoint", request), local=True)
        config = request["EndpointConfigName"]
        self.folder.find(ENDPOINT_CONFIG, config, "CreateEndpoint")
        name = request["EndpointName"]
        self.folder.create(ENDPOINT, request, engine=self.engine_name)
        self._start(name, config, "CreateEndpoint")
        return {"EndpointArn": self.folder.arn(ENDPOINT, name)}

    def update_endpoint(self, **request: Any) -> dict[str, Any]:
        """Start a server beside the old one, which goes on until the new one is ready."""
        check(Call("sagemaker", "UpdateEndpoint", request), local=True)
        name, config = request["EndpointName"], request["EndpointConfigName"]
        if self.describe_endpoint(EndpointName=name)["EndpointStatus"] != "InService":
            message = f"The endpoint {name!r} is not in service and cannot be updated."
            raise client_error("ValidationException", message, "UpdateEndpoint")
        self.folder.find(ENDPOINT_CONFIG, config, "UpdateEndpoint")
        self._start(name, config, "UpdateEndpoint")
        return {"EndpointArn": self.folder.arn(ENDPOINT, name)}

    def describe_endpoint(self, **request: Any) -> dict[str, Any]:
        """Whether the endpoint takes calls."""
        name = request["EndpointName"]
        self._advance(name)
        record = self.folder.find(ENDPOINT, name, "DescribeEndpoint")
        answer = {
            "EndpointName": name,
            "EndpointArn": record["EndpointArn"],
            "EndpointConfigName": record.get("config", record["request"]["EndpointConfigName"]),
            "CreationTime": moment(record["CreationTime"]),
            "EndpointStatus": self._status(record),
        }
        config = self._config(answer["EndpointConfigName"])
        if "AsyncInferenceConfig" in config:
            answer["AsyncInferenceConfig"] = config["AsyncInferenceConfig"]
        if record.get("failure") and not record.get("next"):
            answer["FailureReason"] = record["failure"]
        elif answer["EndpointStatus"] == "Failed":
            answer["FailureReason"] = "The server has ended; its log says why."
        return answer

    def delete_endpoint(self, **request: Any) -> dict[str, Any]:
        """Stop the server and forget the endpoint."""
        name = request["EndpointName"]
        record = self.folder.find(ENDPOINT, name, "DeleteEndpoint")
        for server in (record.get("server"), record.get("next")):
            if server:
                engine(record["engine"]).stop_server(server)
        shutil.rmtree(self.folder.directory(ENDPOINT, name))
        return {}

    def delete_endpoint_config(self, **request: Any) -> dict[str, Any]:
        """Forget a configuration."""
        name = request["EndpointConfigName"]
        return self._deleted(ENDPOINT_CONFIG, name, "DeleteEndpointConfig")

    def delete_model(self, **request: Any) -> dict[str, Any]:
        """Forget a model; its artifact stays."""
        return self._deleted(MODEL, request["ModelName"], "DeleteModel")

    def list_endpoints(self, **request: Any) -> dict[str, Any]:
        """Every endpoint, newest first."""
        names = [record["request"]["EndpointName"] for record in self.folder.all(ENDPOINT)]
        return {"Endpoints": [self.describe_endpoint(EndpointName=name) for name in names]}

    def list_endpoint_configs(self, **request: Any) -> dict[str, Any]:
        """Every endpoint configuration, newest first."""
        return {"EndpointConfigs": self._listed(ENDPOINT_CONFIG)}

    def list_models(self, **request: Any) -> dict[str, Any]:
        """Every model, newest first."""
        return {"Models": self._listed(MODEL)}

    def invocations_url(self, name: str, target: str | None) -> str:
        """Where an endpoint in service answers, with the model that is meant where it has many.

        Raises:
            ClientError: it is not in service, or has no such model.
        """
        url = self.server_url(name)
        server = self.folder.find(ENDPOINT, name, "InvokeEndpoint")["server"]
        variant = self._config(server["config"])["ProductionVariants"][0]
        model = self.folder.find(MODEL, variant["ModelName"], "InvokeEndpoint")["request"]
        main = model["PrimaryContainer"]
        if main.get("Mode") != multi_model.MODE:
            return f"{url}/invocations"
        base = self.folder.directory(ENDPOINT, name) / server["config"] / "opt-ml"
        models = multi_model.Models(
            url, local_path(main["ModelDataUrl"]), base, engine(self.engine_name), server
        )
        return f"{url}/models/{models.loaded(target)}/invoke"

    def server_url(self, name: str) -> str:
        """The address of an endpoint in service. Raises ClientError where it is not."""
        self._advance(name)
        record = self.folder.find(ENDPOINT, name, "InvokeEndpoint")
        if self._status(record) not in ("InService", "Updating"):
            message = f"Endpoint {name} of account is not in service."
            raise client_error("ValidationError", message, "InvokeEndpoint")
        return str(record["server"]["url"])

    def _start(self, name: str, config: str, operation: str) -> None:
        variant = self.folder.find(ENDPOINT_CONFIG, config, operation)["request"][
            "ProductionVariants"
        ][0]
        model = self.folder.find(MODEL, variant["ModelName"], operation)["request"]
        main = model["PrimaryContainer"]
        directory = self.folder.directory(ENDPOINT, name)
        base = directory / config / "opt-ml"
        environment = dict(main.get("Environment", {}))
        try:
            if main.get("Mode") == multi_model.MODE:
                environment |= multi_model.ENVIRONMENT
                (base / multi_model.MODELS).mkdir(parents=True)
            else:
                layout.unpack(local_path(main["ModelDataUrl"]), base / "model")
        except UserError as error:
            self.folder.update(ENDPOINT, name, failure=str(error))
            return
        server = engine(self.engine_name).serve(
            main["Image"], base, environment, directory / "log.txt"
        )
        seconds = variant.get("ContainerStartupHealthCheckTimeoutInSeconds", DEFAULT_START_SECONDS)
        server |= {"config": config, "deadline": time.time() + seconds}
        self.folder.update(ENDPOINT, name, next=server, failure=None)

    def _advance(self, name: str) -> None:
        """A server that is starting takes over when it answers pings, or is given up."""
        record = self.folder.find(ENDPOINT, name, "DescribeEndpoint")
        starting = record.get("next")
        if not starting:
            return
        runner = engine(record["engine"])
        _reap(starting)
        if answers(starting["url"]):
            self.folder.update(
                ENDPOINT, name, server=starting, next=None, config=starting["config"]
            )
            if record.get("server"):
                runner.stop_server(record["server"])
        elif not runner.server_runs(starting):
            runner.stop_server(starting)  # a container that has ended is still there
            reason = "The server ended before it answered a ping; its log says why."
            self.folder.update(ENDPOINT, name, next=None, failure=reason)
        elif time.time() > starting["deadline"]:
            runner.stop_server(starting)
            reason = "The server did not pass the ping health check in time; its log says why."
            self.folder.update(ENDPOINT, name, next=None, failure=reason)

    def _status(self, record: Mapping[str, Any]) -> str:
        server = record.get("server")
        if record.get("next"):
            return "Updating" if server else "Creating"
        if server:
            _reap(server)
            return "InService" if engine(record["engine"]).server_runs(server) else "Failed"
        return "Failed" if record.get("failure") else "Creating"

    def _config(self, name: str) -> dict[str, Any]:
        """A configuration's request; nothing where it was deleted before its endpoint."""
        path = self.folder.record_path(ENDPOINT_CONFIG, name)
        request: dict[str, Any] = records.read(path).get("request", {})
        return request

    def _described(self, resource: Resource, name: str, operation: str) -> dict[str, Any]:
        record = self.folder.find(resource, name, operation)
        return {
            **record["request"],
            resource.arn_member: record[resource.arn_member],
            "CreationTime": moment(record["CreationTime"]),
        }

    def _listed(self, resource: Resource) -> list[dict[str, Any]]:
        return [
            {
                resource.name_member: record["request"][resource.name_member],
                resource.arn_member: record[resource.arn_member],
                "CreationTime": moment(record["CreationTime"]),
            }
            for record in self.folder.all(resource)
        ]

    def _deleted(self, resource: Resource, name: str, operation: str) -> dict[str, Any]:
        self.folder.find(resource, name, operation)
        shutil.rmtree(self.folder.directory(resource, name))
        return {}


def _reap(server: Mapping[str, Any]) -> None:
    """A server that this very process started and that has ended is not to count as running."""
    if identity := processes.Identity.read(server):
        processes.reap(identity.pid)


def answers(url: str) -> bool:
    """Whether a server says that its model is ready."""
    try:
        with urllib.request.urlopen(f"{url}/ping", timeout=PING_SECONDS) as answer:  # noqa: S310
            return bool(answer.status == http.client.OK)
    except (OSError, http.client.HTTPException):
        return False
