"""Keep 30% of a dataset, train on it, and see what it cost: the Python twin of `datawinnow prune digits --keep 0.3`."""

import sys

import datawinnow as dw


def main(epochs: int = 30) -> None:
    train, test = dw.load("digits")
    kept = dw.prune(train, keep=0.3, epochs=epochs, method="dual_beta" if epochs >= 10 else "el2n")
    network = dw.models.resnet8(classes=10, channels=1)
    _, history = dw.fit(network, kept, epochs=epochs, test=test, batch=64)
    print(f"trained on {len(kept)} of {len(train)} examples: {100 * history.test_accuracy:.1f}% right on {len(test)}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
