"""Energy management service: composes drivers, forecasting and optimizer into the cycle."""
