"""Reads of the production app; services, admin and jobs start from them."""
