import json, os, signal, sys
import torch
from sklearn.datasets import load_digits
from torch.nn.functional import cross_entropy

job = json.load(open(sys.argv[1]))
chosen, epochs = job["configuration"], int(job["budget"]["amount"])
torch.manual_seed(job["seed"] % 2**63)
torch.set_num_threads(1)  # as many trainers as cores do the rest
told_to_stop = False
def stop(signal_number, frame):
    global told_to_stop
    told_to_stop = True
signal.signal(signal.SIGTERM, stop)

x, y = (torch.tensor(values) for values in load_digits(return_X_y=True))
x, order = (x / 16).float(), torch.randperm(len(y), generator=torch.Generator().manual_seed(0))
training, validation = order[450:], order[:450]
model = torch.nn.Sequential(
    torch.nn.Linear(64, chosen["width"]), torch.nn.ReLU(), torch.nn.Linear(chosen["width"], 10)
)
optimizer = torch.optim.SGD(model.parameters(), chosen["learning_rate"], momentum=chosen["momentum"])
curve, checkpoint = [], os.path.join(job["checkpoints"], "last.pt")
if os.path.exists(checkpoint):
    saved = torch.load(checkpoint)
    model.load_state_dict(saved["model"]), optimizer.load_state_dict(saved["optimizer"])
    torch.set_rng_state(saved["random"])
    curve = saved["curve"]
    print(f"going on after epoch {len(curve)}")

def replace(path, write):
    write(path + ".part")
    os.replace(path + ".part", path)

while len(curve) < epochs:
    for batch in training[torch.randperm(len(training))].split(64):
        optimizer.zero_grad()
        cross_entropy(model(x[batch]), y[batch]).backward()
        optimizer.step()
    with torch.no_grad():
        error = (model(x[validation]).argmax(1) != y[validation]).double().mean().item()
    curve.append({"spent": len(curve) + 1, "loss": error})
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(),
             "random": torch.get_rng_state(), "curve": curve}
    replace(checkpoint, lambda path: torch.save(state, path))
    replace(job["progress"], lambda path: open(path, "w").write(str(len(curve))))
    if told_to_stop and len(curve) < epochs:
        sys.exit(75)  # the next attempt goes on from here
signal.signal(signal.SIGTERM, signal.SIG_IGN)  # done: a warning must not kill Python while it shuts down
result = {"loss": curve[-1]["loss"], "curve": curve}
replace(job["result"], lambda path: json.dump(result, open(path, "w")))
