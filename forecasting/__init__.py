"""History in, quantile forecast out. Knows no clock and no device."""
