"""SegPrompt: "Boosting Open-world Segmentation via Category-level Prompt Learning" (ICCV 2023).

Importing this package makes the model known to Hugging Face: ``AutoModel``, ``AutoConfig``,
``AutoImageProcessor`` and ``pipeline("open-world-segmentation")`` find it.
"""

from transformers import AutoConfig, AutoImageProcessor, AutoModel
from transformers.pipelines import PIPELINE_REGISTRY

from anymask.methods.segprompt.configuration import SegPromptConfig
from anymask.methods.segprompt.inference import SegPromptDiscoverer
from anymask.methods.segprompt.model import SegPromptModel, SegPromptOutput
from anymask.methods.segprompt.pipeline import OpenWorldSegmentationPipeline
from anymask.methods.segprompt.processing import SegPromptImageProcessor
from anymask.methods.segprompt.prompt_learning import PromptLearningConfig, PromptLearningModel
from anymask.nn.targets import Targets

__all__ = [
    "OpenWorldSegmentationPipeline",
    "PromptLearningConfig",
    "PromptLearningModel",
    "SegPromptConfig",
    "SegPromptDiscoverer",
    "SegPromptImageProcessor",
    "SegPromptModel",
    "SegPromptOutput",
    "Targets",
]

AutoConfig.register(SegPromptConfig.model_type, SegPromptConfig)
AutoModel.register(SegPromptConfig, SegPromptModel)
AutoConfig.register(PromptLearningConfig.model_type, PromptLearningConfig)
AutoModel.register(PromptLearningConfig, PromptLearningModel)
AutoImageProcessor.register(SegPromptConfig, slow_image_processor_class=SegPromptImageProcessor)
PIPELINE_REGISTRY.register_pipeline(
    "open-world-segmentation",
    pipeline_class=OpenWorldSegmentationPipeline,
    pt_model=AutoModel,
    type="image",
)
