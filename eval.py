"""Evaluates a run: python eval.py run=<run folder> [checkpoint=<file>] [data=<another set> data.root=...]

Network, image size and normalisation are the run's own; without data=... the number is the one that training ended with.
"""

from efficientconv.commands import evaluate as main

if __name__ == "__main__":
    main()
