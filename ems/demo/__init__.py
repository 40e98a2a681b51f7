"""The demo: measured households replayed through simulated devices on real Modbus sockets."""
