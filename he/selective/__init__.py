"""Selective encryption: some coordinates under an HE scheme, the others in the clear."""
