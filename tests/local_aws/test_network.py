"""Addresses and ports of regions side by side."""

from __future__ import annotations

import ipaddress
from pathlib import Path

from local_aws.network import SLOTS, Slot, hold_slot


def test_no_two_slots_share_an_address_or_a_port() -> None:
    slots = [Slot(number) for number in range(SLOTS)]
    assert len({slot.vpc_cidr for slot in slots}) == SLOTS
    assert len({slot.public_ip("127.64.1.2") for slot in slots}) == SLOTS
    ports = [port for slot in slots for port in (slot.ssh_port, slot.slurmctld_port, slot.endpoint_port, slot.dcv_port)]
    ports += [port for slot in slots for port in (slot.lock_port, *slot.node_ports)]
    assert len(ports) == len(set(ports))
    assert max(ports) < 32768, "the kernel hands out ports from there on"


def test_private_and_public_addresses_are_loopback_addresses_and_differ() -> None:
    slot = Slot(SLOTS - 1)
    public = slot.public_ip(str(ipaddress.IPv4Network(slot.head_node_cidr)[4]))
    assert ipaddress.ip_address(public).is_loopback
    assert ipaddress.ip_address(public) not in ipaddress.IPv4Network(slot.vpc_cidr)
    assert ipaddress.IPv4Network(slot.head_node_cidr).subnet_of(ipaddress.IPv4Network(slot.vpc_cidr))
    assert not ipaddress.IPv4Network(slot.head_node_cidr).overlaps(ipaddress.IPv4Network(slot.compute_cidr))


def test_a_directory_finds_its_slot_again_and_a_taken_slot_is_passed_over(tmp_path: Path) -> None:
    first, holder = hold_slot(tmp_path)
    second, other = hold_slot(tmp_path)
    assert first != second
    holder.close()
    again, holder = hold_slot(tmp_path)
    assert again == first
    holder.close()
    other.close()
