# Copyright (c) sdd_mm contributors. All rights reserved.
"""The speed claims: one module a family, each runs the code it speaks of."""
