"""Several labels an item: fits, thresholds and figures of a job against scikit-learn on the same rows."""

import itertools
import json
import random

import numpy
import pytest
from scipy.optimize import minimize_scalar
from service import TEXT, wait_until
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, average_precision_score, f1_score, precision_recall_fscore_support
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neighbors import NearestCentroid
from texts import labelled_examples

ENDED = {"succeeded", "failed", "cancelled"}
SIZES = {"train": 240, "val": 90, "test": 150}
C = 10.0
SCALE = 20.0

_names = itertools.count()


class Rows:
    """Messages that ask one to three things at once, of the example file's questions; no question is in two splits."""

    def __init__(self, service):
        chance = random.Random(11)
        questions = {}
        for text, label in labelled_examples():
            questions.setdefault(label, []).append(text)
        self.labels = sorted(questions)
        part = {"train": slice(0, 5), "val": slice(5, 7), "test": slice(7, None)}
        self.rows = []
        for split, size in SIZES.items():
            texts = {}
            while len(texts) < size:
                asked = sorted(chance.sample(self.labels, chance.randint(1, 3)))
                text = " ".join(chance.choice(questions[label][part[split]]) for label in chance.sample(asked, len(asked)))
                texts[text] = asked
            self.rows += [{"text": text, "labels": asked, "split": split} for text, asked in texts.items()]
        self.features = numpy.array(service.embed(TEXT, [row["text"] for row in self.rows]), "f4")
        self.targets = numpy.array([[label in row["labels"] for label in self.labels] for row in self.rows])

    def of(self, split):
        """Features and answers of a split."""
        rows = [place for place, row in enumerate(self.rows) if row["split"] == split]
        return self.features[rows], self.targets[rows]

    def texts(self, split):
        return [row["text"] for row in self.rows if row["split"] == split]


@pytest.fixture(scope="module")
def rows(service):
    return Rows(service)


@pytest.fixture(scope="module")
def file(service, rows):
    content = "\n".join(json.dumps(row) for row in rows.rows).encode()
    stored = service.http.post("/v1/files", files={"file": ("requests.jsonl", content)}, data={"purpose": "fine-tune"}).json()
    assert stored["status"] == "processed", stored
    return stored["id"]


def fitted(service, file, method, **hyperparameters):
    """The classifier's name and its report's metrics."""
    suffix = f"several-{next(_names)}"
    method = {"type": method, method: {"hyperparameters": hyperparameters}}
    body = {"model": TEXT, "training_file": file, "suffix": suffix, "seed": 3, "method": method, "report": {"budget_seconds": 1}}
    job = service.post("/v1/fine_tuning/jobs", body).json()
    path = f"/v1/fine_tuning/jobs/{job['id']}"
    job = wait_until(lambda: (found := service.http.get(path).json())["status"] in ENDED and found, "the job ends")
    assert job["status"] == "succeeded", job
    return suffix, service.http.get(f"{path}/report").json()["metrics"]


def classified(service, name, rows, split, **fields):
    """Scores, and whether each label is said of each text."""
    data = service.post("/v1/classify", {"model": name, "input": rows.texts(split), **fields}).json()["data"]
    by_label = [{score["label"]: score["score"] for score in datum["scores"]} for datum in data]
    scores = numpy.array([[scores[label] for label in rows.labels] for scores in by_label])
    return scores, numpy.array([[label in datum["labels"] for label in rows.labels] for datum in data])


def sigmoid(logits):
    return 1 / (1 + numpy.exp(-logits))


def temperature(logits, targets):
    """What logits are divided by to be likeliest."""

    def loss(inverse):
        return numpy.logaddexp(0, numpy.where(targets, -logits, logits) * inverse).mean()

    return 1 / minimize_scalar(loss, bounds=(0.02, 50), method="bounded", options={"xatol": 1e-9}).x


def threshold(scores, has):
    """The middle between two neighbouring scores with the largest F1; of equals the one nearest one half."""
    known = numpy.unique(scores)
    middles = (numpy.concatenate([[0.0], known[:-1]]) + known) / 2
    return max(middles, key=lambda middle: (f1_score(has, scores >= middle), -abs(middle - 0.5)))


@pytest.mark.parametrize("class_weight", [None, "balanced", {"change_pin": 4.0, "top_up_failed": 0.5}])
def test_a_linear_probe_says_what_scikit_learn_says_one_label_against_the_rest(service, rows, file, class_weight):
    def regression(label):
        weight = {0: 1.0, 1: class_weight.get(label, 1.0)} if isinstance(class_weight, dict) else class_weight
        return LogisticRegression(C=C, class_weight=weight, tol=1e-8, max_iter=10_000)

    features, targets = rows.of("train")
    if isinstance(class_weight, dict):
        models = [regression(label).fit(features, targets[:, place]) for place, label in enumerate(rows.labels)]
        logits = {split: numpy.stack([model.decision_function(rows.of(split)[0]) for model in models], 1) for split in ("val", "test")}
    else:
        model = OneVsRestClassifier(regression(None)).fit(features, targets)
        logits = {split: model.decision_function(rows.of(split)[0]) for split in ("val", "test")}

    name, metrics = fitted(service, file, "linear_probe", c=C, class_weight=class_weight, tolerance=1e-6)
    scores, said = classified(service, name, rows, "test", threshold=0.5)
    assert (said == (logits["test"] > 0)).all(), f"{(said != (logits['test'] > 0)).sum()} decisions differ"
    divisor = temperature(logits["val"], rows.of("val")[1])
    expected = sigmoid(logits["test"] / divisor)
    assert scores == pytest.approx(expected, abs=1e-3)

    has = rows.of("val")[1]
    thresholds = numpy.array([threshold(column, column_has) for column, column_has in zip(sigmoid(logits["val"] / divisor).T, has.T, strict=True)])
    assert [label["label"] for label in metrics["labels"]] == rows.labels
    assert [label["threshold"] for label in metrics["labels"]] == pytest.approx(thresholds, abs=1e-3)
    said = expected >= thresholds
    assert (classified(service, name, rows, "test")[1] == said).all()
    assert_figures(metrics, rows.of("test")[1], said, expected)


def assert_figures(metrics, has, said, scores):
    """The report's figures are scikit-learn's."""
    found = {name: metrics[name]["value"] for name in ("micro_f1", "macro_f1", "exact_match")}
    expected = {"micro_f1": f1_score(has, said, average="micro"), "macro_f1": f1_score(has, said, average="macro"), "exact_match": accuracy_score(has, said)}
    assert found == pytest.approx(expected, abs=1e-9)
    assert metrics["mean_average_precision"] == pytest.approx(average_precision_score(has, scores, average="macro"), abs=1e-3)
    precision, recall, f1, support = precision_recall_fscore_support(has, said, zero_division=0)
    for name, values in (("precision", precision), ("recall", recall), ("f1", f1), ("support", support)):
        assert [label[name] for label in metrics["labels"]] == pytest.approx(values, abs=1e-9), name


def centroids(features, targets, asked):
    """Whether each label's nearer mean is that of the rows with it."""
    said = [NearestCentroid().fit(features, has).predict(asked) for has in targets.T]
    return numpy.stack(said, 1)


def test_a_prototype_is_the_nearest_centroid_of_each_label_also_after_further_examples(service, rows, file):
    features, targets = rows.of("train")
    asked, _ = rows.of("test")
    name, metrics = fitted(service, file, "prototype", scale=SCALE)
    scores, said = classified(service, name, rows, "test", threshold=0.5)
    assert (said == centroids(features, targets, asked)).all()
    away = numpy.stack([[((asked - features[has == side].mean(0)) ** 2).sum(1) for side in (False, True)] for has in targets.T], 2)
    logits = SCALE / 2 * (away[0] - away[1])
    # One divisor for all, which is not known here: score and logit of one row tell it, and it must fit every other.
    divisor = logits[0, 0] / numpy.log(scores[0, 0] / (1 - scores[0, 0]))
    assert scores == pytest.approx(sigmoid(logits / divisor), abs=2e-3)
    assert metrics["micro_f1"]["value"] > 0.7

    more, more_targets = rows.of("val")
    examples = [{"text": row["text"], "labels": row["labels"]} for row in rows.rows if row["split"] == "val"]
    answer = service.post(f"/v1/classifiers/{name}/examples", {"examples": examples}).json()
    assert (answer["added"], answer["version"]) == (len(examples), 2)
    _, said = classified(service, name, rows, "test", threshold=0.5)
    grown = centroids(numpy.concatenate([features, more]), numpy.concatenate([targets, more_targets]), asked)
    assert (said == grown).all()
    assert (grown != centroids(features, targets, asked)).any(), "the examples would not show"


def test_a_hidden_layer_is_about_as_good_as_scikit_learns_regressions(service, rows, file):
    features, targets = rows.of("train")
    asked, has = rows.of("test")
    model = OneVsRestClassifier(LogisticRegression(C=C, max_iter=10_000)).fit(features, targets)
    least = f1_score(has, model.predict(asked), average="micro") - 0.05
    name, metrics = fitted(service, file, "mlp")
    assert metrics["micro_f1"]["value"] >= least
    scores, said = classified(service, name, rows, "test")
    assert_figures(metrics, has, said, scores)
