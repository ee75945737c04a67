"""Where the link on a task leads."""

from __future__ import annotations

from hpc.cluster.links import CloudFormationStackLink

STACK = "arn:aws:cloudformation:eu-west-1:1:stack/demo/60c27236"


def test_on_aws_it_leads_to_the_console() -> None:
    link = CloudFormationStackLink().format_link(
        region_name="eu-west-1", aws_domain="aws.amazon.com", stack_id=STACK, endpoint_url=""
    )

    assert link == (
        "https://console.aws.amazon.com/cloudformation/home?region=eu-west-1#/stacks/stackinfo?stackId="
        "arn%3Aaws%3Acloudformation%3Aeu-west-1%3A1%3Astack%2Fdemo%2F60c27236"
    )


def test_with_an_endpoint_of_ones_own_it_leads_there() -> None:
    link = CloudFormationStackLink().format_link(
        region_name="us-east-1", aws_domain="aws.amazon.com", stack_id=STACK, endpoint_url="http://127.0.0.1:5000/"
    )

    assert link.startswith("http://127.0.0.1:5000/?Action=DescribeStacks&")
