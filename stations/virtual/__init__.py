"""A card without hardware, for demonstrations and tests."""
