"""Building a region-recognition data set as RR-7K was (WOW-Seg, section 3.4; specification 7).

    regions     masks of any source; small ones are dropped            candidates.py
    name        a model or server calls every mask by a name           stages.py
    verify      another one is asked whether frequent names are right  stages.py
    review      a person deletes or renames what does not fit          review.py, review.html
    export      lines of regions, statistics, pictures, a data card    export.py, hierarchy.py

Everything that was ever answered stands in one file that only grows (``ledger.py``); every stage
asks for what is not in it yet.
"""
