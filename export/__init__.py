"""How a model leaves: ONNX files whose outputs were compared with the model they came from."""
