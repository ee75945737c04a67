"""List prices, to say how urgent something is: of us-east-1, on demand, Linux, in US dollars, without taxes.

Other regions differ, most by less than a third. What is in no table has no price (None), which is not a price of 0.
Source: the price lists of EC2, EBS, FSx for Lustre, EFS, Route 53 and CloudWatch, read in 2025.
"""

from __future__ import annotations

HOURS_PER_MONTH = 730

#: An hour of the size `large` of each family; sizes double from there.
LARGE_PER_HOUR = {
    "t2": 0.0928,
    "t3": 0.0832,
    "t3a": 0.0752,
    "t4g": 0.0672,
    "m5": 0.096,
    "m6a": 0.0864,
    "m6g": 0.077,
    "m6i": 0.096,
    "m7a": 0.11592,
    "m7g": 0.0816,
    "m7i": 0.1008,
    "c5": 0.085,
    "c5a": 0.077,
    "c5n": 0.108,
    "c6a": 0.0765,
    "c6g": 0.068,
    "c6gn": 0.0864,
    "c6i": 0.085,
    "c6in": 0.1134,
    "c7a": 0.10264,
    "c7g": 0.0725,
    "c7gn": 0.1248,
    "c7i": 0.08925,
    "r5": 0.126,
    "r6a": 0.1134,
    "r6i": 0.126,
    "r7i": 0.1323,
}
#: An hour of types whose sizes do not double.
TYPE_PER_HOUR = {
    "hpc6a.48xlarge": 2.88,
    "hpc6id.32xlarge": 5.70,
    "hpc7a.12xlarge": 7.20,
    "hpc7a.24xlarge": 7.20,
    "hpc7a.48xlarge": 7.20,
    "hpc7a.96xlarge": 7.20,
    "hpc7g.4xlarge": 1.6832,
    "hpc7g.8xlarge": 1.6832,
    "hpc7g.16xlarge": 1.6832,
    "g4dn.xlarge": 0.526,
    "g5.xlarge": 1.006,
}
#: How many times `large` a size is; every other is `<n>xlarge`, which is 2n.
SIZES = {"nano": 1 / 16, "micro": 1 / 8, "small": 1 / 4, "medium": 1 / 2, "large": 1.0, "xlarge": 2.0}

#: A GiB for a month.
VOLUME_PER_GIB = {
    "gp3": 0.08,
    "gp2": 0.10,
    "io1": 0.125,
    "io2": 0.125,
    "st1": 0.045,
    "sc1": 0.015,
    "standard": 0.05,
}
#: A GiB for a month, by deployment type and MB/s per TiB (0 where it cannot be chosen).
LUSTRE_PER_GIB = {
    ("SCRATCH_1", 0): 0.140,
    ("SCRATCH_2", 0): 0.140,
    ("PERSISTENT_1", 50): 0.140,
    ("PERSISTENT_1", 100): 0.190,
    ("PERSISTENT_1", 200): 0.290,
    ("PERSISTENT_2", 125): 0.145,
    ("PERSISTENT_2", 250): 0.210,
    ("PERSISTENT_2", 500): 0.340,
    ("PERSISTENT_2", 1000): 0.600,
}
EFS_PER_GIB = 0.30
PUBLIC_ADDRESS = 0.005 * HOURS_PER_MONTH
HOSTED_ZONE = 0.50
ALARM = 0.10
COMPOSITE_ALARM = 0.50
DASHBOARD = 3.00


def instance(instance_type: str) -> float | None:
    """Return what an instance costs a month; None for a type that is not in the tables."""
    if instance_type in TYPE_PER_HOUR:
        return TYPE_PER_HOUR[instance_type] * HOURS_PER_MONTH
    family, _, size = instance_type.partition(".")
    factor = SIZES.get(size)
    if factor is None and size.endswith("xlarge") and size.removesuffix("xlarge").isdigit():
        factor = 2.0 * int(size.removesuffix("xlarge"))
    if factor is None or family not in LARGE_PER_HOUR:
        return None
    return LARGE_PER_HOUR[family] * factor * HOURS_PER_MONTH


def volume(volume_type: str, gib: float) -> float | None:
    """Return what a volume costs a month, without IOPS and throughput beyond what is included."""
    rate = VOLUME_PER_GIB.get(volume_type)
    return None if rate is None else rate * gib


def lustre(deployment_type: str, throughput: int, gib: float) -> float | None:
    """Return what an FSx for Lustre file system costs a month; `throughput` is in MB/s per TiB."""
    rate = LUSTRE_PER_GIB.get((deployment_type, 0 if deployment_type.startswith("SCRATCH") else throughput))
    return None if rate is None else rate * gib


def total(prices: list[float | None]) -> str:
    """Write the sum of monthly prices by the hour and the month, for people; an unknown one makes it "at least"."""
    known = [price for price in prices if price is not None]
    if prices and not known:
        return "an unknown price"
    least = "at least " if len(known) < len(prices) else ""
    month = sum(known)
    hour = month / HOURS_PER_MONTH
    return f"{least}{f'about ${hour:,.2f}' if hour >= 0.01 else 'less than $0.01'} an hour (${month:,.2f} a month)"
