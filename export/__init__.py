"""Export, imported as aekit.export: from a trained run to two verified ONNX graphs. Needs the extra `train`."""
