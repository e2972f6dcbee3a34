"""The secrets process: runs the plugins that resolve references such as ``${vault:path#field}``, and nothing else."""
