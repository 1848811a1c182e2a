"""Many inputs: resumable work over files, in this process or in many through Ray. Torch-free."""
