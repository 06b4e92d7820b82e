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


def adagrad(theta, grads, rate, start=0.1, eps=1e-7):
    s = np.full_like(theta, start)
    for t, g in enumerate(grads):
        s = s + g**2
        theta = theta - rate(t) * g / np.sqrt(s + eps)
    return theta


def adadelta(theta, grads, rate, rho=0.9, eps=1e-6, decay=0.0):
    e, x = np.zeros_like(theta), np.zeros_like(theta)
    for t, g in enumerate(grads):
        g = g + decay * theta
        e = rho * e + (1 - rho) * g**2
        u = np.sqrt(x + eps) / np.sqrt(e + eps) * g
        x = rho * x + (1 - rho) * u**2
        theta = theta - rate(t) * u
    return theta


def adamax(theta, grads, rate, b1=0.9, b2=0.999, eps=1e-8):
    m, u = np.zeros_like(theta), np.zeros_like(theta)
    for t, g in enumerate(grads, start=1):
        m = b1 * m + (1 - b1) * g
        u = np.maximum(b2 * u, np.abs(g) + eps)
        theta = theta - rate(t - 1) / (1 - b1**t) * m / u
    return theta


def amsgrad(theta, grads, rate, b1=0.9, b2=0.999, eps=1e-8, corrected=True):
    m, v, v_max = np.zeros_like(theta), np.zeros_like(theta), np.zeros_like(theta)
    for t, g in enumerate(grads, start=1):
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        v_max = np.maximum(v_max, v / (1 - b2**t) if corrected else v)
        step = m / (1 - b1**t) if corrected else m
        theta = theta - rate(t - 1) * step / (np.sqrt(v_max) + eps)
    return theta


def radam(theta, grads, rate, b1=0.9, b2=0.999, eps=1e-8, threshold=5.0):
    m, v = np.zeros_like(theta), np.zeros_like(theta)
    rho_inf = 2 / (1 - b2) - 1
    for t, g in enumerate(grads, start=1):
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        m_hat = m / (1 - b1**t)
        rho = rho_inf - 2 * t * b2**t / (1 - b2**t)
        if rho >= threshold:
            length = np.sqrt(v / (1 - b2**t)) + eps
            r = np.sqrt((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho))
            theta = theta - rate(t - 1) * r * m_hat / length
        else:
            theta = theta - rate(t - 1) * m_hat
    return theta


def adabound(theta, grads, rate, final=100.0, gamma=1e-3, b1=0.9, b2=0.999, eps=1e-8, ams=False):
    """Luo's Algorithm 2 as in his code: the bounds move with the learning rate."""
    m, v, v_max = np.zeros_like(theta), np.zeros_like(theta), np.zeros_like(theta)
    for t, g in enumerate(grads, start=1):
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        v_max = np.maximum(v_max, v)
        final_rate = final * rate(t - 1)
        lower, upper = final_rate * (1 - 1 / (gamma * t + 1)), final_rate * (1 + 1 / (gamma * t))
        step = rate(t - 1) * np.sqrt(1 - b2**t) / (1 - b1**t)
        step = step / (np.sqrt(v_max if ams else v) + eps)
        theta = theta - np.clip(step, lower, upper) * m
    return theta


def adabound_of_the_survey(theta, grads, rate, b1=0.9, b2=0.999, eps=1e-8):
    """As Sun et al. write it: no bias correction, bounds towards the rate, and its root of t."""
    m, v = np.zeros_like(theta), np.zeros_like(theta)
    for t, g in enumerate(grads, start=1):
        alpha = rate(t - 1)
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        lower = alpha * (1 - 1 / ((1 - b2) * t + 1))
        upper = alpha * (1 + 1 / ((1 - b2) * t))
        eta_hat = np.clip(alpha / (np.sqrt(v) + eps), lower, upper)
        theta = theta - eta_hat / np.sqrt(t) * m
    return theta


def ftrl(theta, grads, rate, power=-0.5, start=0.1, l1=0.0, l2=0.0, shrinkage=0.0, beta=0.0):
    """McMahan's Algorithm 1, with the names and the extras of Keras."""
    n, z = np.full_like(theta, start), np.zeros_like(theta)
    for t, g in enumerate(grads):
        eta = rate(t)
        sigma = ((n + g**2) ** -power - n**-power) / eta
        n = n + g**2
        z = z + g + 2 * shrinkage * theta - sigma * theta
        curvature = n**-power / eta + 2 * (l2 + beta / (2 * eta))
        theta = np.where(np.abs(z) <= l1, 0.0, (np.sign(z) * l1 - z) / curvature)
    return theta


def lookahead(theta, grads, rate, inner, period=5, alpha=0.5):
    """Zhang's two nested loops; `inner` walks `period` steps with plain gradient descent."""
    slow = theta
    for start in range(0, len(grads), period):
        batch = grads[start : start + period]
        theta = inner(theta, batch, lambda t, start=start: rate(start + t))
        if len(batch) == period:
            theta = slow = slow + alpha * (theta - slow)
    return theta
