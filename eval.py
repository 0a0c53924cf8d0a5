"""Evaluates a run.

    python eval.py run=<run folder> [checkpoint=<file>]
    python eval.py run=<run folder> data=folder data.root=<images of its classes>

Network, classes, image size and normalisation are the run's own, and its training images may be gone. Without data=... the
number is the one that training ended with. With it, images lie in <class>/, test/<class>/ or val/<class>/, of all classes or
of some. Of images without labels, scripts/predict.py says what they are taken for.
"""

from efficientconv.commands import evaluate as main

if __name__ == "__main__":
    main()
