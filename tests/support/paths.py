"""Where things are, said once: a test file may move without counting its parents again."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""The checkout."""

VECTORS_FOLDER = ROOT / "tests" / "vectors"

SHARED = ROOT.parent / "shared" / "data"
"""Large data beside the checkout (foreign vectors, recorded days): a test of it skips where it is not there."""
