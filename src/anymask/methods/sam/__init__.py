"""SAM and SAM-HQ of Hugging Face, for clicks and boxes."""
