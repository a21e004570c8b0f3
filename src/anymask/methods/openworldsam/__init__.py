"""OpenWorldSAM: "Extending SAM2 for Universal Image Segmentation with Language Prompts"
(NeurIPS 2025).

Importing this package makes the models known to Hugging Face's ``AutoModel`` and ``AutoConfig``.
"""

from transformers import AutoConfig, AutoModel

from anymask.methods.openworldsam.configuration import OpenWorldSAMConfig
from anymask.methods.openworldsam.inference import PhraseFinder
from anymask.methods.openworldsam.model import OpenWorldSAMModel, OpenWorldSAMOutput
from anymask.nn.beit3 import Beit3Config, Beit3Model

__all__ = [
    "Beit3Config",
    "Beit3Model",
    "OpenWorldSAMConfig",
    "OpenWorldSAMModel",
    "OpenWorldSAMOutput",
    "PhraseFinder",
]

AutoConfig.register(Beit3Config.model_type, Beit3Config)
AutoModel.register(Beit3Config, Beit3Model)
AutoConfig.register(OpenWorldSAMConfig.model_type, OpenWorldSAMConfig)
AutoModel.register(OpenWorldSAMConfig, OpenWorldSAMModel)
