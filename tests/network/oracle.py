"""A slow, obvious network of Wilson-Cowan nodes in NumPy float64: scalar loops, nothing shared with the package."""

import numpy as np


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def simulate(weights, lengths, speed, dt, steps, parameters, normal=None, nearest=False):
    """Rates of E after each step, (steps, regions). ``parameters`` holds one list of regions per name.

    The noise is white unless there is a ``tau_noise``.
    """
    n = len(weights)
    p = {name: np.broadcast_to(value, (n,)) for name, value in parameters.items()}
    e, i = np.zeros(n), np.zeros(n)
    noise = np.zeros((2, n))
    past = [e.copy()]  # past[t] is E at time t

    def at(j, t):
        """E of region j at the real-valued time t, in steps; before time zero it was as at time zero."""
        low = int(np.floor(t))
        a, b = past[max(low, 0)][j], past[min(max(low + 1, 0), len(past) - 1)][j]
        return a + (t - low) * (b - a)

    for step in range(steps):
        if normal is not None:
            for port in range(2):
                for r in range(n):
                    if "tau_noise" not in p:
                        noise[port, r] = p["sigma"][r] * normal[step, port, r] / np.sqrt(dt)
                        continue
                    decay = np.exp(-dt / p["tau_noise"][r])
                    spread = p["sigma"][r] * np.sqrt((1 - decay**2) / 2)
                    noise[port, r] = decay * noise[port, r] + spread * normal[step, port, r]
        new_e, new_i = np.empty(n), np.empty(n)
        for r in range(n):
            current = 0.0
            for j in range(n):
                if weights[r, j] != 0 and j != r:
                    delay = lengths[r, j] / (speed * dt)
                    delay = np.round(delay) if nearest else delay
                    current += weights[r, j] * (at(j, step - delay) - e[r])
            external = p["k"][r] * current + p["drive"][r] + noise[0, r]

            def f(x, a, theta):
                return sigmoid(a * (x - theta)) - sigmoid(-a * theta)

            def df(x, a, theta):
                s = sigmoid(a * (x - theta))
                return a * s * (1 - s)

            # Exponential Euler: the derivative of the right-hand side to the variable itself is exact.
            x = p["wEE"][r] * e[r] - p["wIE"][r] * i[r] + external
            rate = (-e[r] + (1 - e[r]) * f(x, p["a_E"][r], p["theta_E"][r])) / p["tau_E"][r]
            own = (
                -1 - f(x, p["a_E"][r], p["theta_E"][r]) + (1 - e[r]) * df(x, p["a_E"][r], p["theta_E"][r]) * p["wEE"][r]
            ) / p["tau_E"][r]
            new_e[r] = e[r] + np.expm1(dt * own) / own * rate
            x = p["wEI"][r] * e[r] - p["wII"][r] * i[r] + noise[1, r]
            rate = (-i[r] + (1 - i[r]) * f(x, p["a_I"][r], p["theta_I"][r])) / p["tau_I"][r]
            own = (
                -1 - f(x, p["a_I"][r], p["theta_I"][r]) - (1 - i[r]) * df(x, p["a_I"][r], p["theta_I"][r]) * p["wII"][r]
            ) / p["tau_I"][r]
            new_i[r] = i[r] + np.expm1(dt * own) / own * rate
        e, i = new_e, new_i
        past.append(e.copy())
    return np.array(past[1:])
