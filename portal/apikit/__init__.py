"""What every API view shares: bearer tokens, keyset pages and problem details (RFC 9457)."""
