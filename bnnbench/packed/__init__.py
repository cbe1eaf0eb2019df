"""Really binary networks: one bit per weight and activation, products by XNOR and popcount.

Computation on packed bits that needs no training code. See docs/packed.md.
"""
