import tandem
import torch
from sklearn.datasets import load_digits
from torch import distributed
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
rank, processes = distributed.get_rank(), distributed.get_world_size()
torch.set_num_threads(1)
x, y = (torch.tensor(values) for values in load_digits(return_X_y=True))
x, order = (x / 16).float(), torch.randperm(len(y), generator=torch.Generator().manual_seed(0))
training, validation = order[450:][rank::processes], order[:450]

for job in tandem.jobs():
    torch.manual_seed(job.seed)
    model = torch.nn.Sequential(
        torch.nn.Linear(64, job.configuration["width"]),
        torch.nn.ReLU(),
        torch.nn.Linear(job.configuration["width"], 10),
    )
    model = DistributedDataParallel(model)
    optimizer = torch.optim.SGD(
        model.parameters(), job.configuration["learning_rate"], momentum=job.configuration["momentum"]
    )
    for epoch in job.remaining({"model": model, "optimizer": optimizer}):
        for batch in training[torch.randperm(len(training))].split(32):
            optimizer.zero_grad()
            cross_entropy(model(x[batch]), y[batch]).backward()
            optimizer.step()
        with torch.no_grad():
            error = (model(x[validation]).argmax(1) != y[validation]).double().mean().item()
        job.report(epoch, error, processes=processes)
distributed.destroy_process_group()
