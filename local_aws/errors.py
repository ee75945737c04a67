"""What can go wrong with the region itself. Every message says what to do next."""


class RegionError(Exception):
    """The region cannot do what was asked."""


class MissingProgramError(RegionError):
    """A program that the region is made of is not installed."""


class NamespacesUnavailableError(RegionError):
    """The kernel or a container refuses the namespaces that machines are made of."""
