"""EffPrompt: learned prompts around class names, and a temporal transformer over the features of frames."""
