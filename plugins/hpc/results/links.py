"""Links from a task to what it put into S3: the folder, the receipt, the pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import quote, urlencode

from airflow.providers.amazon.aws.links.base_aws import BASE_AWS_CONSOLE_LINK, BaseAwsLink

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator, Context


class _S3Link(BaseAwsLink):
    """A place in S3: AWS's console, or with an endpoint of one's own that endpoint's answer.

    Nothing signed is in a link: it is stored, and it is shown to everybody who may see the task.
    """

    def format_link(self, **kwargs: Any) -> str:
        """Return the URL; `endpoint_url` is empty on AWS."""
        place = {name: kwargs[name] for name in ("bucket", "key")}
        if endpoint := kwargs.get("endpoint_url"):
            return self.endpoint_link(endpoint.rstrip("/"), **place)
        link: str = super().format_link(**{**kwargs, "bucket": quote(place["bucket"]), "key": quote(place["key"])})
        return link

    def endpoint_link(self, endpoint: str, *, bucket: str, key: str) -> str:
        """Return the path-style URL of an object."""
        return f"{endpoint}/{quote(bucket)}/{quote(key)}"


class S3ResultsLink(_S3Link):
    """All objects of an export."""

    name: ClassVar[str] = "Results in S3"
    key: ClassVar[str] = "s3_results"
    format_str: ClassVar[str] = BASE_AWS_CONSOLE_LINK + "/s3/buckets/{bucket}?region={region_name}&prefix={key}/"

    def endpoint_link(self, endpoint: str, *, bucket: str, key: str) -> str:
        """Return the URL of the list of objects."""
        return f"{endpoint}/{quote(bucket)}?{urlencode({'list-type': 2, 'prefix': key + '/'})}"


class S3ReceiptLink(_S3Link):
    """The receipt of an export, as a page."""

    name: ClassVar[str] = "Receipt"
    key: ClassVar[str] = "s3_receipt"
    format_str: ClassVar[str] = BASE_AWS_CONSOLE_LINK + "/s3/object/{bucket}?region={region_name}&prefix={key}"


class S3PicturesLink(_S3Link):
    """The page with the pictures of an export, or its only picture."""

    name: ClassVar[str] = "Pictures"
    key: ClassVar[str] = "s3_pictures"
    format_str: ClassVar[str] = BASE_AWS_CONSOLE_LINK + "/s3/object/{bucket}?region={region_name}&prefix={key}"


def persist_link(
    link: type[_S3Link], context: Context, operator: BaseOperator, client: Any, *, bucket: str, key: str
) -> None:
    """Store what the link needs, endpoint included if it is not AWS's own."""
    endpoint = client.meta.endpoint_url
    link.persist(
        context=context,
        operator=operator,
        region_name=client.meta.region_name,
        aws_partition=client.meta.partition,
        endpoint_url="" if ".amazonaws.com" in endpoint else endpoint,
        bucket=bucket,
        key=key,
    )
