import json, os, sys
from sklearn.datasets import load_digits
from sklearn.linear_model import SGDClassifier
from sklearn.model_selection import train_test_split

job = json.load(open(sys.argv[1]))
x, y = load_digits(return_X_y=True)
x_train, x_valid, y_train, y_valid = train_test_split(x / 16, y, test_size=0.25, random_state=0)
model = SGDClassifier(
    alpha=job["configuration"]["alpha"],
    learning_rate="constant",
    eta0=job["configuration"]["rate"],
    random_state=job["seed"] % 2**32,
)
curve = []
for epoch in range(1, int(job["budget"]["amount"]) + 1):
    model.partial_fit(x_train, y_train, classes=range(10))
    loss = 1 - model.score(x_valid, y_valid)
    curve.append({"spent": epoch, "loss": loss})
    with open(job["progress"], "w") as file:
        file.write(str(epoch))
with open(job["result"] + ".part", "w") as file:
    json.dump({"loss": loss, "curve": curve}, file)
os.rename(job["result"] + ".part", job["result"])
