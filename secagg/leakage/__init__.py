"""What still leaks: attacks, what each party sees, metrics, defences, and what a client can notice."""
