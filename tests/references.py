"""The papers' equations in NumPy float64, one function an optimizer, with nothing of JAX in them.

Each takes the parameters and a list of gradients (or a function of the parameters), and returns the
parameters after all steps. `rate` is a function of the step, counted from 0.
"""

import numpy as np


def sgd(theta, grads, rate):
    for t, g in enumerate(grads):
        theta = theta - rate(t) * g
    return theta


def momentum(theta, grads, rate, beta=0.9):
    m = np.zeros_like(theta)
    for t, g in enumerate(grads):
        m = beta * m + g
        theta = theta - rate(t) * m
    return theta


def nesterov(theta, grads, rate, beta=0.9):
    m = np.zeros_like(theta)
    for t, g in enumerate(grads):
        m = beta * m + g
        theta = theta - rate(t) * (g + beta * m)
    return theta


def rmsprop(theta, grads, rate, beta=0.9, eps=1e-8, outside=False):
    s = np.zeros_like(theta)
    for t, g in enumerate(grads):
        s = beta * s + (1 - beta) * g**2
        root = np.sqrt(s) + eps if outside else np.sqrt(s + eps)
        theta = theta - rate(t) * g / root
    return theta


def centered_rmsprop(theta, grads, rate, beta=0.9, eps=1e-8):
    s, m = np.zeros_like(theta), np.zeros_like(theta)
    for t, g in enumerate(grads):
        s = beta * s + (1 - beta) * g**2
        m = beta * m + (1 - beta) * g
        theta = theta - rate(t) * g / np.sqrt(s - m**2 + eps)
    return theta


def adam(theta, grads, rate, b1=0.9, b2=0.999, eps=1e-8, decay=0.0):
    m, v = np.zeros_like(theta), np.zeros_like(theta)
    for t, g in enumerate(grads, start=1):
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        step = (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + eps)
        theta = theta - rate(t - 1) * (step + decay * theta)
    return theta


def nadam(theta, grads, rate, b1=0.9, b2=0.999, eps=1e-8):
    m, v = np.zeros_like(theta), np.zeros_like(theta)
    for t, g in enumerate(grads, start=1):
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        ahead = b1 * m / (1 - b1 ** (t + 1)) + (1 - b1) * g / (1 - b1**t)
        theta = theta - rate(t - 1) * ahead / (np.sqrt(v / (1 - b2**t)) + eps)
    return theta
