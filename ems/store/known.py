"""What the store remembers to have written, so that it is not written again with every pass."""

from dataclasses import dataclass, field

from ems.plan import Plan
from ems.store.packing import Layout


@dataclass(kw_only=True, slots=True)
class Known:
    """Rows that are certainly there. Forgotten whenever a transaction fails, as its rows are not."""

    sites: set[str] = field(default_factory=set)
    """Site ids."""
    layouts: dict[Layout, int] = field(default_factory=dict)
    """Layouts with their ids."""
    plans: dict[str, tuple[Plan, int]] = field(default_factory=dict)
    """Last plan per site, the object itself, and the cycle it was decided in [ms]."""

    def forget(self) -> None:
        """Start anew."""
        self.sites.clear()
        self.layouts.clear()
        self.plans.clear()
