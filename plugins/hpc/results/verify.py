"""`python -m hpc.results.verify s3://bucket/prefix/receipt.json`: prove from anywhere that the results are in S3.

Needs boto3 and pydantic, no Airflow; credentials, region and endpoint come from where the AWS command line takes them.
Exit code 0: all verified. 1: something is missing or different. 2: could not be asked.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from hpc.errors import HpcError
from hpc.results.bucket import THREADS
from hpc.results.receipt import load_receipt, verify_receipt


def main(arguments: Sequence[str] | None = None) -> int:
    """Verify one receipt and print what was found; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m hpc.results.verify", description="Verify results by their receipt."
    )
    parser.add_argument("receipt", help="s3://bucket/prefix/receipt.json")
    parser.add_argument("--read", action="store_true", help="read every object instead of trusting S3's own SHA-256")
    parser.add_argument("--profile", help="a profile of the AWS configuration")
    parser.add_argument("--endpoint-url", help="the S3 endpoint, if it is not AWS's")
    options = parser.parse_args(arguments)

    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        client = boto3.Session(profile_name=options.profile).client(
            "s3", endpoint_url=options.endpoint_url, config=Config(max_pool_connections=THREADS)
        )
        receipt = load_receipt(client, options.receipt)
        mismatches = verify_receipt(client, receipt, read=options.read)
    except (HpcError, BotoCoreError, ClientError) as error:
        print(f"could not verify {options.receipt}: {error}", file=sys.stderr)
        return 2
    for mismatch in mismatches:
        print(f"{mismatch.path!r}: {mismatch.reason}")
    verdict = f"{len(mismatches)} NOT as the receipt says" if mismatches else "verified"
    print(f"{receipt.uri}: {receipt.total_files:,} files, {receipt.total_bytes:,} bytes: {verdict}")
    return 1 if mismatches else 0


if __name__ == "__main__":
    sys.exit(main())
