import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread():
    """Tiny networks are faster so, and sums do not depend on the machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
