//! Predictors through ONNX Runtime: store, verify, warm, swap.
