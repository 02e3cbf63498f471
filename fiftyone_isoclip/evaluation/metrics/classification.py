"""Classification by the nearest class mean (NCM) of training rows."""

from __future__ import annotations

import numpy as np

from fiftyone_isoclip.errors import VectorError
from fiftyone_isoclip.evaluation.metrics.ranking import check_length
from fiftyone_isoclip.index.vectors import Float32s, Float64s, Rows, row_blocks


def ncm_accuracy(
    train: Float32s, train_labels: Rows, test: Float32s, test_labels: Rows
) -> Float64s:
    """Tell which test rows are nearest to the mean of their own class: unit rows -> (n,) 0 or 1.

    Nearest by Euclidean distance to the mean of the class's unit rows, which is not itself brought
    to length 1 (as scikit-learn's NearestCentroid); of equally near classes the lowest number. A
    test row whose class has no training row is a miss. The mean of what is returned is the
    accuracy.

    Raises:
        VectorError: there are no training rows, or the sides do not fit together.
    """
    check_length("train_labels", train_labels, len(train))
    check_length("test_labels", test_labels, len(test))
    if not len(train) or train.shape[1:] != test.shape[1:]:
        raise VectorError(
            f"Class means need at least one training row, of the dim of the test rows; found "
            f"training rows {train.shape} and test rows {test.shape}."
        )
    classes, number = np.unique(train_labels, return_inverse=True)
    means = np.zeros((len(classes), train.shape[1]))
    for block in row_blocks(*train.shape):
        np.add.at(means, number[block], train[block].astype(np.float64))
    means /= np.bincount(number)[:, None]
    half_lengths = (means**2).sum(axis=1) / 2
    hits = np.empty(len(test))
    for block in row_blocks(len(test), max(test.shape[1], len(classes))):
        closeness = test[block].astype(np.float64) @ means.T - half_lengths
        hits[block] = classes[closeness.argmax(axis=1)] == test_labels[block]
    return hits
