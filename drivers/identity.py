"""Who answered at an endpoint and unit."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Identity:
    """Who answered at an endpoint and unit."""

    maker: str
    """As the device tells it, or as its device file names it."""
    model: str
    """Product name."""
    serial: str | None
    """Serial number, when the device tells one."""
    version: str | None
    """Firmware, when the device tells one."""
    models: tuple[int, ...] = ()
    """SunSpec model ids in the order met; empty without SunSpec."""

    @property
    def name(self) -> str:
        """Maker and product, the maker not twice."""
        return self.model if self.model.startswith(self.maker) else f"{self.maker} {self.model}"
