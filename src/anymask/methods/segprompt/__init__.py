"""methods/segprompt"""
