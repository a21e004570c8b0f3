"""OSM: "Towards Open-Ended Visual Recognition with Large Language Model" (ECCV 2024).

Importing this package makes the model known to Hugging Face's ``AutoModel`` and ``AutoConfig``.
"""

from transformers import AutoConfig, AutoModel

from anymask.methods.osm.configuration import OSMConfig
from anymask.methods.osm.heads import OSMHeads, OSMHeadsConfig
from anymask.methods.osm.inference import OSMNamer
from anymask.methods.osm.model import OSMModel, OSMOutput

__all__ = ["OSMConfig", "OSMHeads", "OSMHeadsConfig", "OSMModel", "OSMNamer", "OSMOutput"]

AutoConfig.register(OSMConfig.model_type, OSMConfig)
AutoModel.register(OSMConfig, OSMModel)
AutoConfig.register(OSMHeadsConfig.model_type, OSMHeadsConfig)
AutoModel.register(OSMHeadsConfig, OSMHeads)
