"""Condensation written out: loops over classes, rows and pixels, straight from the equations."""

import math

import torch


def normalised_steps(x, gradients_at, lr, momentum, steps, classes):
    """IDM's pixels: one optimiser over all images, a step after each class, the others' gradients zero."""
    x = x.clone()
    velocity = torch.zeros_like(x)
    size = len(x) // classes
    for k in range(steps):
        for c in range(classes):
            gradient = torch.zeros_like(x)
            gradient[c * size : (c + 1) * size] = gradients_at(x, k)[c * size : (c + 1) * size]
            velocity = momentum * velocity + gradient
            x = x - lr * velocity
    return x


def row_distance(a, b):
    """DC's distance of two gradients of one parameter: 1 - cosine, row by row; biases and norms count nothing."""
    if a.dim() < 2:
        return 0.0
    total = 0.0
    for one, other in zip(a.reshape(a.shape[0], -1).tolist(), b.reshape(b.shape[0], -1).tolist(), strict=True):
        dot = sum(p * q for p, q in zip(one, other, strict=True))
        lengths = math.sqrt(sum(p * p for p in one)) * math.sqrt(sum(q * q for q in other))
        total += 1 - dot / (lengths + 1e-6)
    return total


def gradient_matching(net, real, synthetic):
    """Sum over classes of the distance between gradients; ``real`` and ``synthetic`` are lists of (images, labels)."""
    weights, total = list(net.parameters()), 0.0
    for (x, y), (s, t) in zip(real, synthetic, strict=True):
        on_real = torch.autograd.grad(torch.nn.functional.cross_entropy(net(x), y), weights)
        on_own = torch.autograd.grad(torch.nn.functional.cross_entropy(net(s), t), weights)
        total += sum(row_distance(a, b) for a, b in zip(on_own, on_real, strict=True))
    return total


def mean_matching(features, real, synthetic):
    """DM: squared distance of mean features, class by class."""
    total = 0.0
    for (x, _), (s, _) in zip(real, synthetic, strict=True):
        for p, q in zip(features(x).mean(0).tolist(), features(s).mean(0).tolist(), strict=True):
            total += (p - q) ** 2
    return total


def discrimination(features, real, synthetic):
    """CAFE: cross-entropy, summed, of real features classified by the classes' mean synthetic features."""
    centres = [features(s).mean(0) for s, _ in synthetic]
    total = 0.0
    for label, (x, _) in enumerate(real):
        for f in features(x):
            logits = [float((f * centre).sum().detach()) for centre in centres]
            total += math.log(sum(math.exp(z) for z in logits)) - logits[label]
    return total


def upsampled(tile, height, width):
    """Bilinear enlargement of a (rows, columns) list of lists, pixel centres aligned as corners are not."""
    rows, columns = len(tile), len(tile[0])
    out = [[0.0] * width for _ in range(height)]
    for i in range(height):
        for j in range(width):
            y = max((i + 0.5) * rows / height - 0.5, 0.0)
            x = max((j + 0.5) * columns / width - 0.5, 0.0)
            top, left = min(int(y), rows - 1), min(int(x), columns - 1)
            low, right = min(top + 1, rows - 1), min(left + 1, columns - 1)
            down, across = y - top, x - left
            out[i][j] = (1 - down) * ((1 - across) * tile[top][left] + across * tile[top][right]) + down * (
                (1 - across) * tile[low][left] + across * tile[low][right]
            )
    return out


def saturated(x, factor):
    """Colours of one (channels, height, width) image scaled about grey."""
    grey = x.mean(0, keepdim=True)
    return (x - grey) * factor + grey


def shifted(x, down, right):
    """One image of which pixel (i, j) shows what stood at (i + down, j + right); zero outside."""
    height, width = x.shape[1:]
    out = torch.zeros_like(x)
    for i in range(height):
        for j in range(width):
            if 0 <= i + down < height and 0 <= j + right < width:
                out[:, i, j] = x[:, i + down, j + right]
    return out


def condensed_with_batch_norm(build, by_class, images, labels, *, iterations, outer, lr, momentum, net_lr):
    """DC on networks with batch norm, real images used whole, one epoch of one batch on the images between two steps.

    Before each step all real images set the running statistics, and the norms stay in evaluation mode while gradients
    are matched.
    """
    classes, per_class = len(by_class), len(images) // len(by_class)
    images, velocity = images.clone(), torch.zeros_like(images)
    cross_entropy = torch.nn.functional.cross_entropy
    for _ in range(iterations):
        net = build()
        weights = list(net.parameters())
        optimizer = torch.optim.SGD(weights, lr=net_lr)
        for t in range(outer):
            net.train()
            net(torch.cat(by_class))
            for module in net.modules():
                if "BatchNorm" in type(module).__name__:
                    module.eval()
            leaf, total = images.clone().requires_grad_(), 0.0
            for c in range(classes):
                real = torch.autograd.grad(cross_entropy(net(by_class[c]), torch.full((len(by_class[c]),), c)), weights)
                stored = leaf[c * per_class : (c + 1) * per_class]
                on_own = torch.autograd.grad(
                    cross_entropy(net(stored), torch.full((per_class,), c)), weights, create_graph=True
                )
                for a, b in zip(on_own, real, strict=True):
                    if a.dim() > 1:
                        a, b = a.flatten(1), b.flatten(1)
                        total = total + (1 - (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1) + 1e-6)).sum()
            velocity = momentum * velocity + torch.autograd.grad(total, leaf)[0]
            images = images - lr * velocity
            if t + 1 < outer:
                net.train()
                optimizer.zero_grad()
                cross_entropy(net(images), labels).backward()
                optimizer.step()
    return images
