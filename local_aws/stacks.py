"""CloudFormation stacks that are created and deleted over time, with an event for each resource, as on AWS.

moto does both within the API call and without events. Here a stack has a thread of its own for either; nested stacks
are worked on by their parent's thread.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from typing import Any, Protocol

from moto.cloudformation import parsing
from moto.cloudformation.exceptions import ValidationError
from moto.cloudformation.models import CloudFormationBackend, Event, Stack
from moto.cloudformation.responses import CloudFormationResponse
from moto.core.common_models import CloudFormationModel

from local_aws import stack_tags
from local_aws.cloudformation import WaitCondition
from local_aws.faults import Faults
from local_aws.patching import add, replace

LOG = logging.getLogger(__name__)
DELETE_SECONDS = 2.0
"""A stack stays in DELETE_IN_PROGRESS at least this long, so that the CLI that asked for it still finds it."""
POLL_SECONDS = 0.1
STACK_TYPE = "AWS::CloudFormation::Stack"

_disable_rollback: ContextVar[bool] = ContextVar("disable_rollback", default=False)
_retained: ContextVar[frozenset[str]] = ContextVar("retained", default=frozenset())
_working = threading.local()
_one_at_a_time = threading.RLock()
#: moto asks whether a stack of the name is there, reads the template for a second, and then makes the stack.
_naming = threading.Lock()


class ResourceFailedError(Exception):
    """A resource could not be created; the message is its status reason."""


class HeadNodes(Protocol):
    """Who knows whether the head node of a stack has finished its bootstrap."""

    def bootstrap(self, stack_name: str) -> tuple[bool, str | None]:
        """Answer (finished, failure reason)."""
        ...

    def stack_created(self, stack: Any) -> None:
        """Every resource of the stack is there."""
        ...

    def stack_updated(self, stack: Any) -> None:
        """The stack has a changed configuration."""
        ...


def references(node: Any) -> Iterator[str]:
    """Every logical id that a part of a template refers to."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            if key == "Ref" and isinstance(value, str):
                yield value
            elif key == "Fn::GetAtt":
                yield value.split(".")[0] if isinstance(value, str) else value[0]
            elif key == "Fn::Sub":
                text = value if isinstance(value, str) else value[0]
                yield from (name.split(".")[0] for name in re.findall(r"\$\{([^!}][^}]*)\}", text))
                yield from references(value)
            elif key == "DependsOn":
                yield from [value] if isinstance(value, str) else value
            else:
                yield from references(value)
    elif isinstance(node, list):
        for item in node:
            yield from references(item)


def creation_order(resources: Mapping[str, Any]) -> list[str]:
    """The logical ids such that each comes after all that it refers to, and a wait condition after the instances.

    AWS creates in parallel, so there a wait condition waits for an instance that it does not refer to; here it comes
    later.
    """
    ordered: dict[str, None] = {}
    instances = [logical_id for logical_id, document in resources.items() if document["Type"] == "AWS::EC2::Instance"]

    def visit(logical_id: str, path: tuple[str, ...]) -> None:
        if logical_id in ordered or logical_id in path:
            return
        waited_for = instances if resources[logical_id]["Type"] == WaitCondition.type_name else []
        for other in [*references(resources[logical_id]), *waited_for]:
            if other in resources:
                visit(other, (*path, logical_id))
        ordered[logical_id] = None

    for logical_id in resources:
        visit(logical_id, ())
    return list(ordered)


class StackWork:
    """Creates, rolls back and deletes one stack on the calling thread."""

    def __init__(self, stack: Any, head_nodes: HeadNodes, faults: Faults) -> None:
        self.stack = stack
        self.head_nodes = head_nodes
        self.faults = faults
        self.resources: dict[str, Any] = stack.template_dict["Resources"]

    def create(self) -> None:
        """Create every resource, and roll back when one fails, unless told not to."""
        stack = self.stack
        for logical_id in creation_order(self.resources):
            try:
                self._create_resource(logical_id)
            except Exception as error:  # whatever a resource raises is its status reason, and the stack's end
                self._fail(logical_id, error)
                return
        stack.status = "CREATE_COMPLETE"
        self.head_nodes.stack_created(stack)
        stack._add_stack_event("CREATE_COMPLETE")

    def _create_resource(self, logical_id: str) -> None:
        document = self.resources[logical_id]
        condition = document.get("Condition")
        if condition and not self.stack.resource_map.lazy_condition_map[condition]:
            return
        self._event(logical_id, "CREATE_IN_PROGRESS")
        with self._changing(logical_id):
            resource = self.stack.resource_map[logical_id]
            self._tag(logical_id, resource)
        if isinstance(resource, WaitCondition):
            self._wait_for_head_node()
        self._event(logical_id, "CREATE_COMPLETE")

    def _changing(self, logical_id: str) -> AbstractContextManager[Any]:
        """Let one stack at a time change a resource: moto goes through its dictionaries while others change them.

        A nested stack takes its time, and is a row of resources itself.
        """
        return nullcontext() if self.resources[logical_id]["Type"] == STACK_TYPE else _one_at_a_time

    def _tag(self, logical_id: str, resource: Any) -> None:
        stack = self.stack
        tags = {
            **stack.tags,
            "aws:cloudformation:stack-name": stack.name,
            "aws:cloudformation:stack-id": stack.stack_id,
            "aws:cloudformation:logical-id": logical_id,
        }
        stack_tags.pass_on(resource, stack.account_id, stack.region_name, tags)

    def _wait_for_head_node(self) -> None:
        started = time.monotonic()
        while self.stack.status == "CREATE_IN_PROGRESS":
            finished, failure = self.head_nodes.bootstrap(self.stack.name)
            if failure is not None:
                raise ResourceFailedError(failure)
            if finished and time.monotonic() - started >= self.faults.create_delay:
                return
            time.sleep(POLL_SECONDS)
        raise ResourceFailedError("Resource creation cancelled")

    def _fail(self, logical_id: str, error: Exception) -> None:
        stack = self.stack
        LOG.warning(
            "%s: %s failed: %s", stack.name, logical_id, error, exc_info=not isinstance(error, ResourceFailedError)
        )
        self._event(logical_id, "CREATE_FAILED", str(error))
        if stack.status != "CREATE_IN_PROGRESS":
            return  # deleted meanwhile: that thread ends the stack
        reason = f"The following resource(s) failed to create: [{logical_id}]. "
        if stack.disable_rollback or stack_is_nested():
            stack.status = "CREATE_FAILED"
            stack._add_stack_event("CREATE_FAILED", reason)
            if stack_is_nested():
                raise ResourceFailedError(
                    f"Embedded stack {stack.stack_id} was not successfully created: {reason}"
                ) from error
            return
        stack.status = "ROLLBACK_IN_PROGRESS"
        stack._add_stack_event("ROLLBACK_IN_PROGRESS", reason + "Rollback requested by user.")
        ended = "ROLLBACK_COMPLETE" if self._delete_resources() else "ROLLBACK_FAILED"
        if stack.status == "ROLLBACK_IN_PROGRESS":  # else deleted meanwhile
            stack.status = ended
            stack._add_stack_event(ended)

    def delete(self, retained: frozenset[str] = frozenset()) -> None:
        """Delete every resource but the `retained` ones, given by their logical ids."""
        stack = self.stack
        started = time.monotonic()
        deleted = self._delete_resources(retained)
        while time.monotonic() - started < max(self.faults.delete_delay, 0 if stack_is_nested() else DELETE_SECONDS):
            time.sleep(POLL_SECONDS)
        stack.status = "DELETE_COMPLETE" if deleted else "DELETE_FAILED"
        stack._add_stack_event(stack.status)

    def _delete_resources(self, retained: frozenset[str] = frozenset()) -> bool:
        """Delete what was created, last first; False when something would not go."""
        resource_map = self.stack.resource_map
        created = resource_map._parsed_resources
        complete = True
        for logical_id in reversed(creation_order(self.resources)):
            resource = created.get(logical_id)
            if resource is None or isinstance(resource, str):
                continue
            if self.resources[logical_id].get("DeletionPolicy") == "Retain" or logical_id in retained:
                self._event(logical_id, "DELETE_SKIPPED")
                continue
            self._event(logical_id, "DELETE_IN_PROGRESS")
            try:
                self._delete_resource(logical_id, resource)
            except Exception as error:  # whatever a resource raises is its status reason
                LOG.warning("%s: %s was not deleted", self.stack.name, logical_id, exc_info=True)
                self._event(logical_id, "DELETE_FAILED", str(error))
                complete = False
                continue
            self._event(logical_id, "DELETE_COMPLETE")
            created.pop(logical_id, None)
        return complete

    def _delete_resource(self, logical_id: str, resource: Any) -> None:
        document = self.resources[logical_id]
        names = (logical_id, document["Type"])
        fault = self.faults.take_deletion(*(f"{self.stack.name}/{name}" for name in names), *names)
        if fault is None:
            with self._changing(logical_id):
                self.stack.resource_map._delete_resource(resource, document)
            if document["Type"] == STACK_TYPE and resource.status == "DELETE_FAILED":
                raise ResourceFailedError(f"Embedded stack {resource.stack_id} was not successfully deleted")
        elif fault.reason:
            raise ResourceFailedError(fault.reason)

    def _event(self, logical_id: str, status: str, reason: str | None = None) -> None:
        resource = self.stack.resource_map._parsed_resources.get(logical_id)
        physical_id = getattr(resource, "physical_resource_id", None) or ""
        resource_type = self.resources[logical_id]["Type"]
        stack = self.stack
        stack.events.append(
            Event(stack.stack_id, stack.name, logical_id, physical_id, resource_type, status, reason, None)
        )


def stack_is_nested() -> bool:
    """True on a thread that works on a stack already."""
    return getattr(_working, "nested", 0) > 1


def install(head_nodes: HeadNodes, faults: Faults) -> None:
    """Make moto's stacks asynchronous."""
    parsing.NULL_MODELS[:] = []  # the wait condition and its handle are real here
    for cached in (parsing.get_model_list, parsing.get_model_map, parsing.get_name_type_map):
        cached.cache_clear()
    _install_create(head_nodes, faults)
    _install_delete(head_nodes, faults)
    _install_update(head_nodes)
    _install_descriptions()


def _on_a_thread(work: Callable[[], None], name: str) -> None:
    """Run `work` at once for a nested stack (we are on its parent's thread), otherwise on a thread of its own."""

    def run() -> None:
        _working.nested = getattr(_working, "nested", 0) + 1
        try:
            work()
        finally:
            _working.nested -= 1

    if getattr(_working, "nested", 0):
        run()
    else:
        threading.Thread(target=run, name=name, daemon=True).start()


def _install_create(head_nodes: HeadNodes, faults: Faults) -> None:
    original_response = CloudFormationResponse.create_stack

    def respond(self: Any) -> Any:
        token = _disable_rollback.set(bool(self._get_bool_param("DisableRollback", False)))
        try:
            with _naming:
                return original_response(self)
        finally:
            _disable_rollback.reset(token)

    def create_resources(self: Any) -> None:
        self.status = "CREATE_IN_PROGRESS"
        self.disable_rollback = _disable_rollback.get()
        _on_a_thread(StackWork(self, head_nodes, faults).create, f"create-{self.name}")

    replace(CloudFormationResponse, "create_stack", respond)
    replace(Stack, "create_resources", create_resources)


def _install_delete(head_nodes: HeadNodes, faults: Faults) -> None:
    original_response = CloudFormationResponse.delete_stack

    def respond(self: Any) -> Any:
        token = _retained.set(frozenset(self._get_param("RetainResources") or ()))
        try:
            return original_response(self)
        finally:
            _retained.reset(token)

    def delete_stack(self: Any, name_or_id: str) -> None:
        stack = next((s for s in list(self.stacks.values()) if name_or_id in (s.stack_id, s.name)), None)
        if stack is None or stack.status == "DELETE_IN_PROGRESS":
            return
        retained = _retained.get()
        if retained and stack.status != "DELETE_FAILED":
            raise ValidationError(
                message="Invalid operation on stack. RetainResources can only be specified for a stack in DELETE_FAILED"
            )
        stack.status = "DELETE_IN_PROGRESS"
        stack._add_stack_event("DELETE_IN_PROGRESS", "User Initiated")

        def work() -> None:
            StackWork(stack, head_nodes, faults).delete(retained)
            if stack.status == "DELETE_COMPLETE":
                self.stacks.pop(stack.stack_id, None)
                self.deleted_stacks[stack.stack_id] = stack
                for name in [n for n, export in self.exports.items() if export.exporting_stack_id == stack.stack_id]:
                    self.exports.pop(name)

        _on_a_thread(work, f"delete-{stack.name}")

    replace(CloudFormationResponse, "delete_stack", respond)
    replace(CloudFormationBackend, "delete_stack", delete_stack)


def _install_update(head_nodes: HeadNodes) -> None:
    original = Stack.update

    def update(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        head_nodes.stack_updated(self)

    replace(Stack, "update", update)


def _install_descriptions() -> None:
    """Alone, moto creates what it is asked to describe: a describe during the creation must only see what is there."""

    def created(self: Any) -> list[CloudFormationModel]:
        parsed: dict[str, Any] = self.resource_map._parsed_resources
        return [parsed[name] for name in self.resource_map.resources if parsed.get(name) is not None]

    all_outputs: Any = Stack.__dict__["outputs"]

    def outputs(self: Any) -> Any:
        finished = self.status.endswith("_COMPLETE") and not self.status.startswith(("ROLLBACK", "DELETE"))
        return all_outputs.fget(self) if finished else None

    def nested_output(self: Any, name: str) -> Any:
        """`Fn::GetAtt: [NestedStack, Outputs.Name]`."""
        return self.output_map[name.split(".", 1)[1]].value

    replace(Stack, "stack_resources", property(created))
    replace(Stack, "outputs", property(outputs))
    add(Stack, "get_cfn_attribute", nested_output)
