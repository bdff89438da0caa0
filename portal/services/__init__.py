"""Services of the kernel."""
