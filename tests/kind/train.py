"""Trains models of three runtimes into folders below /out, with what each predicts: run in MLServer's image, which has the libraries."""

import json
from pathlib import Path

import mlflow.sklearn
from sklearn.datasets import load_diabetes, load_iris
from sklearn.linear_model import LinearRegression, LogisticRegression

OUT = Path("/out")
X, Y = load_iris(return_X_y=True)
FLOWERS = [[5.1, 3.5, 1.4, 0.2], [6.3, 3.3, 6.0, 2.5], [5.8, 2.7, 4.1, 1.0]]
PATIENTS = load_diabetes().data[:3]


def classifier(folder: str, labels) -> dict:
    """Save a classifier as MLflow does."""
    model = LogisticRegression(max_iter=500).fit(X, labels)
    mlflow.sklearn.save_model(model, OUT / folder)
    return {"predict": model.predict(FLOWERS).tolist(), "predict_proba": model.predict_proba(FLOWERS).ravel().tolist()}


def regression(folder: str) -> list:
    """Save a regression with a signature, which MLflow's runtime reads."""
    model = LinearRegression().fit(*load_diabetes(return_X_y=True))
    signature = mlflow.models.infer_signature(PATIENTS, model.predict(PATIENTS))
    mlflow.sklearn.save_model(model, OUT / folder, signature=signature)
    return model.predict(PATIENTS).tolist()


told = {
    "flowers": FLOWERS,
    "patients": PATIENTS.tolist(),
    "first": classifier("first", Y),
    # The same flowers under other numbers.
    "second": classifier("second", (Y + 1) % 3),
    "regression": regression("regression"),
}
(OUT / "told.json").write_text(json.dumps(told))
