"""The model: its folder on disk, its sessions in onnxruntime, and what they compute."""
