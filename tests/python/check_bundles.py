"""Checks every bundle under models/ with programs that share nothing with the trainer.

usage: check_bundles.py [MODELS_DIR]

Digests of the files, the checker of the onnx package, and golden rows by its reference implementation (and by onnxruntime, where that is installed): the
largest difference may be 1e-5. Exit code 1 with the reason when something does not hold.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

ROOT = Path(__file__).resolve().parents[2]
TOLERANCE = 1e-5
SLOW_ROWS = 12  # the reference implementation walks each tree in Python


def answers(path: Path, rows: np.ndarray) -> dict[str, np.ndarray]:
    """What each implementation at hand answers."""
    found = {"onnx.reference": ReferenceEvaluator(str(path)).run(None, {"features": rows[:SLOW_ROWS]})[0]}
    if importlib.util.find_spec("onnxruntime"):
        import onnxruntime

        found["onnxruntime"] = onnxruntime.InferenceSession(str(path)).run(None, {"features": rows})[0]
    return found


def check(bundle: Path) -> str:
    manifest = json.loads((bundle / "manifest.json").read_text())
    for name, said in manifest["files"].items():
        assert hashlib.sha256((bundle / name).read_bytes()).hexdigest() == said["sha256"], f"{name} is not the file of the manifest"
    onnx.checker.check_model(str(bundle / "model.onnx"), full_check=True)
    rows = np.array([row["features"] for row in manifest["golden"]], dtype=np.float32)
    recorded = np.array([row["outputs"] for row in manifest["golden"]], dtype=np.float32)
    differences = {by: float(np.abs(found - recorded[: len(found)]).max()) for by, found in answers(bundle / "model.onnx", rows).items()}
    for by, worst in differences.items():
        assert worst <= TOLERANCE, f"{by} answers {worst:.1e} otherwise than recorded"
    return ", ".join(f"{by} within {worst:.0e}" for by, worst in differences.items())


def main() -> int:
    models = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "models"
    bundles = sorted(path.parent for path in models.glob("*/*/manifest.json"))
    if not bundles:
        print(f"check_bundles: no bundle under {models}", file=sys.stderr)
        return 1
    for bundle in bundles:
        try:
            print(f"bundle {bundle.parent.name}/{bundle.name}: {check(bundle)}")
        except Exception as error:  # whatever does not hold is told with the bundle's name
            print(f"check_bundles: {bundle}: {type(error).__name__}: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
