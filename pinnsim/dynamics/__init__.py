"""Equations of cells: reaction systems whose rates may be learned, but never what a reaction makes."""
