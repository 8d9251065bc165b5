"""Every row of the import-pattern document as a small ONNX model, and the tests that compile them."""
