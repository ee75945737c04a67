"""The command line of the local region: `python -m local_aws up | down | status | fault …`."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from dataclasses import asdict
from pathlib import Path

from local_aws.errors import RegionError
from local_aws.faults import LAUNCH_CODES
from local_aws.region import RegionFacts, ask, check_programs, down, read_facts, up


def default_directory() -> Path:
    """`.local/region` of the checkout that the current directory is in."""
    here = Path.cwd()
    project = next((parent for parent in (here, *here.parents) if (parent / "local_aws").is_dir()), here)
    return project / ".local/region"


def make_parser() -> argparse.ArgumentParser:
    """The command line's grammar."""
    parser = argparse.ArgumentParser(prog="python -m local_aws", description="An AWS region on this machine.")
    commands = parser.add_subparsers(dest="command", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--dir", type=Path, default=None, help="the region's directory (default: .local/region)")

    start = commands.add_parser(
        "up", parents=[common], help="start the region, if it does not run, and print its facts"
    )
    start.add_argument("--port", type=int, help="the endpoint's port (default: a free one)")
    start.add_argument("--foreground", action="store_true", help="stay, and stop at SIGTERM or Ctrl-C")
    commands.add_parser("down", parents=[common], help="stop the region and everything that runs in it")
    show = commands.add_parser("status", parents=[common], help="print the region's facts, clusters and faults")
    show.add_argument("--json", action="store_true", help="print the facts as JSON")

    fault = commands.add_parser("fault", help="order a fault").add_subparsers(dest="fault", required=True)
    bootstrap = fault.add_parser("bootstrap", parents=[common], help="head nodes fail to start from now on")
    bootstrap.add_argument("reason", help="what the head node reports")
    bootstrap.add_argument("--cluster", default="*", help="those of one cluster (default: of all)")
    capacity = fault.add_parser("capacity", parents=[common], help="EC2 refuses instances from now on")
    capacity.add_argument(
        "target",
        nargs="?",
        default="*",
        help="a queue, compute resource or node (default: all), or a head node's type or subnet",
    )
    capacity.add_argument("--code", choices=LAUNCH_CODES, default=LAUNCH_CODES[0], help="the error code")
    node = fault.add_parser("node", parents=[common], help="lose the instance of a compute node, now")
    node.add_argument("cluster")
    node.add_argument("node")
    metric = fault.add_parser("metric", parents=[common], help="publish a value for an alarm's metric from now on")
    metric.add_argument("alarm")
    metric.add_argument("value", type=float)
    delay = fault.add_parser("delay", parents=[common], help="make stacks take longer from now on (seconds)")
    delay.add_argument("--create", type=float)
    delay.add_argument("--delete", type=float)
    deletion = fault.add_parser(
        "deletion", parents=[common], help="keep resources from being deleted with their stack from now on"
    )
    deletion.add_argument("target", help="[STACK/]logical id or type, for example AWS::EC2::PlacementGroup")
    deletion.add_argument("--reason", default="", help="what CloudFormation says (default: it claims a success)")
    deletion.add_argument("--times", type=int, help="how often (default: always)")
    fault.add_parser("clear", parents=[common], help="take back every fault")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run one command; the exit code is 0, or 1 with a message on stderr."""
    arguments = make_parser().parse_args(argv)
    directory = (arguments.dir or default_directory()).resolve()
    try:
        return _run(arguments, directory)
    except RegionError as error:
        print(error, file=sys.stderr)
        return 1


def _run(arguments: argparse.Namespace, directory: Path) -> int:
    match arguments.command:
        case "up" if arguments.foreground:
            return _foreground(directory, arguments.port)
        case "up":
            _print_facts(up(directory, arguments.port), as_json=False)
        case "down":
            print("stopped" if down(directory) else "no region was running")
        case "status":
            facts = _facts(directory)
            _print_facts(facts, as_json=arguments.json)
            if not arguments.json:
                print(json.dumps(ask(facts, "status"), indent=1))
        case "fault":
            _order(arguments, _facts(directory))
    return 0


def _foreground(directory: Path, port: int | None) -> int:
    from local_aws.server import serve  # slow to import: moto and boto3

    check_programs()
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    logging.getLogger("botocore").setLevel(logging.WARNING)
    serve(directory, port)
    return 0


def _order(arguments: argparse.Namespace, facts: RegionFacts) -> None:
    match arguments.fault:
        case "bootstrap":
            ask(facts, "fault-bootstrap", reason=arguments.reason, cluster=arguments.cluster)
        case "capacity":
            ask(facts, "fault-capacity", target=arguments.target, code=arguments.code)
        case "node":
            ask(facts, "fault-node", cluster=arguments.cluster, node=arguments.node)
        case "metric":
            ask(facts, "fault-metric", alarm=arguments.alarm, value=arguments.value)
        case "delay":
            ask(facts, "fault-delays", create=arguments.create, delete=arguments.delete)
        case "deletion":
            ask(facts, "fault-deletion", target=arguments.target, reason=arguments.reason, times=arguments.times)
        case "clear":
            ask(facts, "fault-clear")


def _facts(directory: Path) -> RegionFacts:
    facts = read_facts(directory)
    if facts is None:
        raise RegionError(f"No region runs in {directory}: start it with `python -m local_aws up`.")
    return facts


def _print_facts(facts: RegionFacts, as_json: bool) -> None:
    if as_json:
        print(json.dumps(asdict(facts), indent=1))
    else:
        print("\n".join(f"{name:20} {value}" for name, value in asdict(facts).items()))


if __name__ == "__main__":
    sys.exit(main())
