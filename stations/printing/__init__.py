"""Printing a face on a card through IPP, from memory: a CUPS queue or the printer itself; no Django."""
