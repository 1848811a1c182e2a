"""Training without class names: every action is one class, which a classifier of whole videos may name later."""

from dataclasses import replace
from pathlib import Path

from stale_edge.config import Config
from stale_edge.data import ONE_CLASS, DataSet, as_one_class, read_split
from stale_edge.model.actionformer import ActionFormerConfig


def without_names(config: Config, data_set: DataSet) -> tuple[DataSet, tuple[str, ...]]:
    """Prepare the data of an ActionFormer with one class where there are several; other data stay as they are.

    Returns:
        The data set, in which every action of the classes to train on is called `action`, and the vocabulary; empty
        where nothing was changed.

    Raises:
        DataError: the class file is unreadable, or a class that is not trained on is called `action`.
    """
    if not isinstance(config.model, ActionFormerConfig) or config.model.n_classes != 1:
        return data_set, ()
    classes = read_split(Path(config.classes)) if config.classes else data_set.annotations.classes
    if len(classes) < 2:
        return data_set, ()
    return replace(data_set, annotations=as_one_class(data_set.annotations, classes)), (ONE_CLASS,)
