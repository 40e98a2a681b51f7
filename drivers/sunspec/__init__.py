"""SunSpec: models found by walking a device, decoded by definitions from pysunspec2."""
