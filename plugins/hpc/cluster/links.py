"""Links from a task to what it made: the CloudFormation stack."""

from __future__ import annotations

from typing import Any, ClassVar
from urllib.parse import quote, urlencode

from airflow.providers.amazon.aws.links.base_aws import BASE_AWS_CONSOLE_LINK, BaseAwsLink


class CloudFormationStackLink(BaseAwsLink):
    """The stack in the AWS console; with an endpoint of one's own, that endpoint's answer about it."""

    name: ClassVar[str] = "CloudFormation stack"
    key: ClassVar[str] = "cloudformation_stack"
    format_str: ClassVar[str] = (
        BASE_AWS_CONSOLE_LINK + "/cloudformation/home?region={region_name}#/stacks/stackinfo?stackId={stack_id}"
    )

    def format_link(self, **kwargs: Any) -> str:
        """Return the URL; `endpoint_url` is empty on AWS."""
        if endpoint := kwargs.get("endpoint_url"):
            query = {"Action": "DescribeStacks", "Version": "2010-05-15", "StackName": kwargs["stack_id"]}
            return f"{endpoint.rstrip('/')}/?{urlencode(query)}"
        link: str = super().format_link(**{**kwargs, "stack_id": quote(kwargs["stack_id"], safe="")})
        return link
