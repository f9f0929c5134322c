"""Photographs to findings, and several views of an eye to one decision. No torch."""
