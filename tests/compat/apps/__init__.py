"""One application per framework; the contract is in the docstring of the package above."""
