"""OVSNet: "Stepping Out of Similar Semantic Space for Open-Vocabulary Segmentation" (ICCV 2025).

Importing this package makes the model known to Hugging Face's ``AutoModel`` and ``AutoConfig``.
"""

from transformers import AutoConfig, AutoModel

from anymask.methods.ovsnet.aggregation import GradientFreeAggregation
from anymask.methods.ovsnet.configuration import OVSNetConfig
from anymask.methods.ovsnet.inference import OVSNetMatcher
from anymask.methods.ovsnet.model import OVSNetModel, OVSNetOutput
from anymask.nn.clip_convnext import ClipConvNext, ClipConvNextConfig

__all__ = [
    "ClipConvNext",
    "ClipConvNextConfig",
    "GradientFreeAggregation",
    "OVSNetConfig",
    "OVSNetMatcher",
    "OVSNetModel",
    "OVSNetOutput",
]

AutoConfig.register(ClipConvNextConfig.model_type, ClipConvNextConfig)
AutoModel.register(ClipConvNextConfig, ClipConvNext)
AutoConfig.register(OVSNetConfig.model_type, OVSNetConfig)
AutoModel.register(OVSNetConfig, OVSNetModel)
