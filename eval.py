"""Evaluates the network of a run: top-1 and top-5 accuracy and loss on test images.

    python eval.py run=<run folder>                         on the test images of the run
    python eval.py run=<run folder> checkpoint=<file>       with the weights of this file
    python eval.py run=<run folder> data=folder data.root=<folder>    on other images of the same classes

The network, the classes, the image size and the normalisation come from the run folder. The training images are not needed.
Without data=... the accuracy is the one that the training reported at its end. With data=folder, the images lie in <class>/,
test/<class>/ or val/<class>/; some classes may be missing. For images without labels use scripts/predict.py.
"""

from efficientconv.commands import evaluate as main

if __name__ == "__main__":
    main()
