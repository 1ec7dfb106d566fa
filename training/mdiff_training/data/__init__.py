"""What a denoiser is trained on: micrographs from files, folders and generators."""
