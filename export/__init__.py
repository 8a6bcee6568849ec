"""Export, imported as aekit.exporting: from a trained run to two verified ONNX graphs. Needs the extra `train`."""
