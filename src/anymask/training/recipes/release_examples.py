"""From a finished ``segprompt-pocket-examples`` to the file beside the segmenter that ships:

python -m anymask.training.recipes.release_examples RUN SEGMENTER MIN_SCORE
"""

from __future__ import annotations

import sys
from pathlib import Path

from anymask.methods.segprompt.few_shot import save_beside
from anymask.methods.segprompt.prompt_learning import PromptLearningModel

if __name__ == "__main__":
    run, segmenter, min_score = sys.argv[1:]
    save_beside(PromptLearningModel.from_pretrained(run), Path(segmenter), float(min_score))
