//! Features by polars, learners on linfa, ONNX out, evaluation by replay.
