"""The pure core: what is verified, how it is judged, and why. No I/O, no clock, no Prefect."""
