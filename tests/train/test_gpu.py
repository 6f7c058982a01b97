"""Training on a GPU: the numbers of the CPU, and no wait for the device inside an epoch. `make full` runs these."""

import pytest
import torch

from datawinnow.core.selection import Selection
from datawinnow.data.examples import Augment
from datawinnow.data.kept import Kept
from datawinnow.record import Recorder
from datawinnow.train import fit
from tests.train.helpers import PLAIN, blobs, image_net, images, vector_net, weights

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
ON_GPU = {**PLAIN, "device": "cuda"}


def test_a_weighted_selection_trains_to_the_weights_of_the_cpu():
    chosen = Selection(torch.arange(59, 20, -1), torch.linspace(0, 3, 39))
    on_gpu, on_cpu = vector_net(norm=True), vector_net(norm=True)
    fit(on_gpu, Kept(blobs(), chosen), epochs=3, **ON_GPU)
    fit(on_cpu, Kept(blobs(), chosen), epochs=3, **PLAIN)
    torch.testing.assert_close(weights(on_gpu).cpu(), weights(on_cpu), rtol=1e-3, atol=1e-4)


def test_images_are_cropped_and_recorded_as_on_the_cpu():
    data, columns = images(48, augment=Augment(crop=2)), {}
    for name, options in (("there", ON_GPU), ("here", PLAIN)):
        recorder = Recorder(48, 1)
        fit(image_net(), data, epochs=1, lr=1e-4, recorder=recorder, **options)
        columns[name] = recorder["p_label"]
    torch.testing.assert_close(columns["there"], columns["here"], rtol=1e-3, atol=1e-3)


def test_no_step_waits_for_the_device():
    data = images(48, augment=Augment(crop=2))
    recorder, seen = Recorder(48, 1), []

    def first_step_done(stage, done, total):
        seen.append(done)
        torch.cuda.set_sync_debug_mode("error" if done < total else "default")

    try:
        fit(
            image_net(),
            data,
            epochs=1,
            recorder=recorder,
            progress=first_step_done,
            **{**ON_GPU, "precision": "bf16"},
        )
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert seen == [1, 2, 3]
    assert recorder["seen"].all()


def test_a_stopped_run_goes_on_to_the_same_loss(tmp_path):
    at = tmp_path / "c.safetensors"

    def stop(epoch, history):
        if epoch == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(image_net(), images(), epochs=4, checkpoint=at, on_epoch=stop, **ON_GPU)
    _, resumed = fit(image_net(), images(), epochs=4, checkpoint=at, **ON_GPU)
    _, unbroken = fit(image_net(), images(), epochs=4, **ON_GPU)
    assert [row["loss"] for row in resumed.rows] == pytest.approx([row["loss"] for row in unbroken.rows], rel=1e-3)
