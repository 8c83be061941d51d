# Copyright (c) sdd_mm contributors. All rights reserved.
"""What was measured, and what measures it; see tools/benchmark/."""
