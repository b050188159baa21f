"""CKKS under a shared key: integers in complex slots, seeded ciphertexts, one prime."""
