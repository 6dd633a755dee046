"""Linear probes: logistic regression on frozen unit vectors, the plainest measure of what a backbone knows."""

import numpy as np
from sklearn.linear_model import LogisticRegression


def accuracy(train: np.ndarray, train_labels: np.ndarray, test: np.ndarray, test_labels: np.ndarray, c: float) -> float:
    """Accuracy on `test` in percent; `c` is the inverse of the L2 penalty's weight."""
    return 100 * LogisticRegression(C=c, max_iter=5000).fit(train, train_labels).score(test, test_labels)


def transfer_table(vectors: np.ndarray, labels: np.ndarray, is_train: np.ndarray, domains: np.ndarray, names: tuple, c: float) -> np.ndarray:
    """Accuracy in percent by target domain (column): a row for each single source domain, then one for the three others together."""
    table = np.zeros((len(names) + 1, len(names)))
    for column, target in enumerate(names):
        test = ~is_train & (domains == target)
        sources = [is_train & (domains == name) for name in names] + [is_train & (domains != target)]
        for row, source in enumerate(sources):
            table[row, column] = accuracy(vectors[source], labels[source], vectors[test], labels[test], c)
    return table
