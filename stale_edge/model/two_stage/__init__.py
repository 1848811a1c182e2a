"""Two stages, as in EffPrompt: class-agnostic proposals, then the class of each from prompted CLIP."""
