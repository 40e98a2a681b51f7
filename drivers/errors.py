"""Broken promises of the caller; device trouble is a value, see `protocols.Trouble`.

DriverError
├── EndpointError       an endpoint string cannot be understood
├── UnknownDriverError  no such device file
└── DeviceFileError     a device file breaks its schema
"""


class DriverError(ValueError):
    """Base of all configuration mistakes this package reports."""


class EndpointError(DriverError):
    """An endpoint string cannot be understood."""


class UnknownDriverError(DriverError):
    """No such driver."""


class DeviceFileError(DriverError):
    """A device file breaks its schema."""
