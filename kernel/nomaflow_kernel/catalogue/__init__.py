"""The catalogue of a kernel: the jobs each host brings, and the part of them that the store keeps."""
