"""Models, endpoint configurations and endpoints on this machine."""

import contextlib
import shutil
from typing import Any

from botocore.exceptions import ClientError

from container.errors import UserError
from launcher import records
from launcher.api import Call, check
from launcher.local import multi_model
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
from launcher.local.servers import Servers, announcement


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
        name, config = request["EndpointName"], request["EndpointConfigName"]
        variant, container = self._asked(config, "CreateEndpoint")
        with self.folder.locked(ENDPOINT, name):
            starting = announcement(self.engine_name, config)
            self.folder.create(ENDPOINT, request, next=starting)
            self._servers(name).start(variant, container, starting)
        return {"EndpointArn": self.folder.arn(ENDPOINT, name)}

    def update_endpoint(self, **request: Any) -> dict[str, Any]:
        """Start a server beside the old one, which goes on until the new one is ready."""
        check(Call("sagemaker", "UpdateEndpoint", request), local=True)
        name, config = request["EndpointName"], request["EndpointConfigName"]
        variant, container = self._asked(config, "UpdateEndpoint")
        servers = self._servers(name)
        servers.advance()
        with self.folder.locked(ENDPOINT, name):
            if servers.status(servers.record()) != "InService":
                message = f"The endpoint {name!r} is not in service and cannot be updated."
                raise client_error("ValidationException", message, "UpdateEndpoint")
            starting = announcement(self.engine_name, config)
            self.folder.put(ENDPOINT, name, next=starting, failure=None)
            servers.start(variant, container, starting)
        return {"EndpointArn": self.folder.arn(ENDPOINT, name)}

    def describe_endpoint(self, **request: Any) -> dict[str, Any]:
        """Whether the endpoint takes calls."""
        name = request["EndpointName"]
        servers = self._servers(name)
        servers.advance()
        record = servers.record()
        answer = {
            "EndpointName": name,
            "EndpointArn": record["EndpointArn"],
            "EndpointConfigName": record.get("config", record["request"]["EndpointConfigName"]),
            "CreationTime": moment(record["CreationTime"]),
            "EndpointStatus": servers.status(record),
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
        """Stop the servers and forget the endpoint. Raises UserError where one goes on."""
        name = request["EndpointName"]
        self.folder.find(ENDPOINT, name, "DeleteEndpoint")
        directory = self.folder.directory(ENDPOINT, name)
        with self.folder.locked(ENDPOINT, name):
            try:
                self._servers(name).stop_all()
            except UserError as error:
                raise UserError(
                    f"{error} Where that engine is gone for good, remove {directory}."
                ) from None
            shutil.rmtree(directory)
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
        found = []
        for record in self.folder.all(ENDPOINT):
            # Another command may delete one of them meanwhile.
            with contextlib.suppress(ClientError):
                name = record["request"]["EndpointName"]
                found.append(self.describe_endpoint(EndpointName=name))
        return {"Endpoints": found}

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
        servers = self._servers(name)
        server = servers.record("InvokeEndpoint")["server"]
        variant = self._config(server["config"])["ProductionVariants"][0]
        model = self.folder.find(MODEL, variant["ModelName"], "InvokeEndpoint")["request"]
        main = model["PrimaryContainer"]
        if main.get("Mode") != multi_model.MODE:
            return f"{url}/invocations"
        models = multi_model.Models(
            url,
            local_path(main["ModelDataUrl"]),
            servers.base(server),
            engine(server["engine"]),
            server,
        )
        return f"{url}/models/{models.loaded(target)}/invoke"

    def server_url(self, name: str) -> str:
        """The address of an endpoint in service. Raises ClientError where it is not."""
        servers = self._servers(name)
        servers.advance()
        record = servers.record("InvokeEndpoint")
        if servers.status(record) not in ("InService", "Updating"):
            message = f"Endpoint {name} of account is not in service."
            raise client_error("ValidationError", message, "InvokeEndpoint")
        return str(record["server"]["url"])

    def _servers(self, name: str) -> Servers:
        return Servers(self.folder, name)

    def _asked(self, config: str, operation: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """A configuration's variant, and what its model is made of. Raises ClientError."""
        found = self.folder.find(ENDPOINT_CONFIG, config, operation)["request"]
        variant = found["ProductionVariants"][0]
        model = self.folder.find(MODEL, variant["ModelName"], operation)["request"]
        return variant, model["PrimaryContainer"]

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
        with contextlib.suppress(FileNotFoundError):  # of two commands one finds it gone
            shutil.rmtree(self.folder.directory(resource, name))
        return {}
