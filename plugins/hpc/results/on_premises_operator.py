"""Step 11: results from S3 to a site on-premises, verified by the same receipt."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from hpc.results.bucket import ResultsBucket, transfer_client
from hpc.results.launch import (
    format_bytes,
)
from hpc.results.on_premises import SiteFolder, copy_results, open_site
from hpc.results.receipt import Receipt, load_receipt

if TYPE_CHECKING:
    from airflow.sdk import Context

SECONDS_BETWEEN_LINES = 10.0


class ResultsOnPremisesOperator(BaseOperator):
    """Copy what a receipt lists from S3 to a site by SFTP, verify every file there, and leave the receipt there last.

    A retry sends only what the site does not hold yet, and goes on in the midst of a file. Each file is written under
    another name, read back, compared with the receipt, and only then given its name. The site's host key has to be in
    the connection (`host_key`) or in the worker's known_hosts.

    Returns `{"directory", "sftp_conn_id", "receipt_uri", "files", "bytes", "sent", "verified"}`.

    Raises ReceiptMismatchError, ExportError, PermissionDeniedError, ConnectionLostError.

    :param receipt_uri: `s3://…/receipt.json`, as ResultsToS3Operator returns it
    :param sftp_conn_id: the site
    :param directory: an absolute folder there; made if it does not exist
    """

    template_fields: Sequence[str] = ("receipt_uri", "sftp_conn_id", "directory", "aws_conn_id", "region_name")
    ui_color = "#e3ecf8"

    def __init__(
        self,
        *,
        receipt_uri: str,
        sftp_conn_id: str,
        directory: str,
        aws_conn_id: str | None = "aws_default",
        region_name: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.receipt_uri = receipt_uri
        self.sftp_conn_id = sftp_conn_id
        self.directory = directory
        self.aws_conn_id = aws_conn_id
        self.region_name = region_name

    def execute(self, context: Context) -> dict[str, Any]:
        """Copy and verify."""
        client = transfer_client(self.aws_conn_id, self.region_name or None)
        receipt = load_receipt(client, self.receipt_uri)
        sent = asyncio.run(self._copy(receipt, ResultsBucket(client, receipt.bucket)))
        self.log.info("Verified at %s: %s files, %s of them sent now", self.directory, receipt.total_files, sent)
        return {
            "directory": self.directory,
            "sftp_conn_id": self.sftp_conn_id,
            "receipt_uri": self.receipt_uri,
            "files": receipt.total_files,
            "bytes": receipt.total_bytes,
            "sent": sent,
            "verified": True,
        }

    async def _copy(self, receipt: Receipt, bucket: ResultsBucket) -> int:
        last = time.monotonic()

        def show(files: int, size: int) -> None:
            nonlocal last
            if time.monotonic() - last >= SECONDS_BETWEEN_LINES or files == receipt.total_files:
                last = time.monotonic()
                total = f"{receipt.total_files:,} files, {format_bytes(size)} of {format_bytes(receipt.total_bytes)}"
                self.log.info("%s of %s are at the site", f"{files:,}", total)

        async with open_site(self.sftp_conn_id) as sftp:
            return await copy_results(receipt, bucket, SiteFolder(sftp, self.directory), show)
