"""OVSNet's Fig. 1b at small scale: does tuning CLIP help near words and hurt far ones?"""

from __future__ import annotations

from anymask.training.studies.ovsnet_components import prepare, run
from anymask.training.study import Arm, Ordering, Study

STUDY = Study(
    name="frozen-or-tuned",
    question="Does tuning CLIP help words near the training words and hurt words far from them?",
    source="OVSNet (ICCV 2025), Fig. 1b, which shows curves and prints no numbers",
    arms=(
        Arm("frozen", "CLIP does not learn, no aggregation, no proxies",
            {"aggregation": "none", "proxy_weight": 0.0}),
        Arm("tuned", "the same, CLIP's trunk learns from MAFT+'s two losses",
            {"aggregation": "none", "proxy_weight": 0.0, "train_clip_trunk": True}),
    ),
    metrics=("mIoU_known", "mIoU_unseen"),
    orderings=(
        Ordering("mIoU_known", "tuned", "frozen", floor=0.1),
        Ordering("mIoU_unseen", "frozen", "tuned", floor=0.1),
    ),
    steps=100,
    run=run,
    prepare=prepare,
    points=1,
    limits=(
        "A CLIP of 2.7 M parameters that has read all words of the scenes world, on 256-pixel "
        "scenes, 800 pictures a run behind 1,200 that the arms of a seed share; near words "
        "are those of training, far ones unseen things."
    ),
)  # fmt: skip
