"""The plant line: what it gets, what it reports, and a virtual one for demos and tests."""
