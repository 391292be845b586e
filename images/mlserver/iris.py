"""Trains a small classifier of iris flowers into iris/model.joblib beside this file."""

from pathlib import Path

import joblib
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

folder = Path(__file__).parent / "iris"
folder.mkdir()
joblib.dump(LogisticRegression(max_iter=500).fit(*load_iris(return_X_y=True)), folder / "model.joblib")
