"""Many inputs: resumable work over files, in this process or on many through Ray. Torch-free."""
