"""An Airflow AWS connection as this room needs it: clients of several services, and environment variables."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from hpc.errors import ConfigurationError, PermissionDeniedError

if TYPE_CHECKING:
    import boto3
    from airflow.providers.amazon.aws.hooks.base_aws import AwsGenericHook


class Account:
    """One AWS account and region, by the name of an Airflow connection. Asks the connection when it is first needed."""

    def __init__(self, aws_conn_id: str | None, region_name: str | None) -> None:
        self.aws_conn_id = aws_conn_id
        self.region_name = region_name or None
        self._clients: dict[str, Any] = {}

    @cached_property
    def hook(self) -> AwsGenericHook[Any]:
        """The Amazon provider's hook."""
        from airflow.providers.amazon.aws.hooks.base_aws import AwsGenericHook

        return AwsGenericHook(aws_conn_id=self.aws_conn_id, region_name=self.region_name, client_type="cloudformation")

    @cached_property
    def session(self) -> boto3.session.Session:
        """The session that all clients share: it reads botocore's models and asks for a role's credentials once."""
        return self.hook.get_session(region_name=self.hook.region_name)

    @property
    def region(self) -> str:
        """The region. Raises ConfigurationError when neither the task nor the connection names one."""
        region = self.session.region_name
        if not region:
            raise ConfigurationError(
                f"no AWS region: neither the task nor the connection {self.aws_conn_id} names one",
                remedy="set region_name on the task or in the connection's extra",
            )
        return str(region)

    @property
    def partition(self) -> str:
        """`aws`, or the partition of China's or the US government's regions."""
        return str(self.session.get_partition_for_region(self.region))

    @property
    def endpoint_url(self) -> str:
        """The connection's own endpoint; empty for AWS itself."""
        return self.hook.conn_config.endpoint_url or ""

    def client(self, service: str) -> Any:
        """Return the boto3 client of a service, the same one each time."""
        if service not in self._clients:
            self._clients[service] = self.session.client(
                service,  # type: ignore[call-overload]  # any of boto3's names
                region_name=self.region,
                endpoint_url=self.hook.conn_config.get_service_endpoint_url(service),
                config=self.hook.config,
                verify=self.hook.verify,
            )
        return self._clients[service]

    def variables(self) -> dict[str, str]:
        """Return the environment variables that give a program this account, its credentials frozen as they are now.

        Raises PermissionDeniedError when the connection gives no credentials.
        """
        if self.session.get_credentials() is None:
            raise PermissionDeniedError(
                f"the AWS connection {self.aws_conn_id} gives no credentials",
                remedy="set its login and password, or its role",
            )
        credentials = self.hook.get_credentials(region_name=self.region)
        variables = {
            "AWS_DEFAULT_REGION": self.region,
            "AWS_ACCESS_KEY_ID": credentials.access_key,
            "AWS_SECRET_ACCESS_KEY": credentials.secret_key,
            "AWS_SESSION_TOKEN": credentials.token,
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "AWS_CA_BUNDLE": self.hook.verify if isinstance(self.hook.verify, str) else None,
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        return {name: value for name, value in variables.items() if value}
