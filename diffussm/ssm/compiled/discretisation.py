"""From a channel's parameters to exponents and kernel weights w, and the gradients back, in double precision.

    A = -exp(log_decay) + i frequency,  z = exp(log_dt) A,  w = 2 C (e^z - 1)/A

for N/2 pairs, as `parameters.discretise`, in one pass without temporaries. Complex arrays are stored as real ones, real
parts before imaginary parts. Double precision is needed because an error in z is multiplied by the position. e^z - 1 is
computed as expm1(x) cos y - 2 sin^2(y/2) + i e^x sin y for z = x + iy, which does not cancel.
"""

import math

import numpy as np
from numba import njit


@njit(nogil=True, error_model="numpy")
def discretise(log_dt, log_decay, frequency, c, stored, pairs, exponentials, weights):
    """Fill `exponentials` with e^z and `weights` with w, (2, pairs) each, from `stored` pairs; the rest is set to 0."""
    dt = math.exp(np.float64(log_dt))
    for n in range(pairs):
        if n < stored:
            a_re, a_im = -math.exp(np.float64(log_decay[n])), np.float64(frequency[n])
            e_re, e_im, m_re = _exponential(dt * a_re, dt * a_im)
            q_re, q_im = _quotient(m_re, e_im, a_re, a_im)
            c_re, c_im = 2.0 * c[2 * n], 2.0 * c[2 * n + 1]
            w_re, w_im = c_re * q_re - c_im * q_im, c_re * q_im + c_im * q_re
        else:
            e_re, e_im, w_re, w_im = 0.0, 0.0, 0.0, 0.0
        exponentials[n] = e_re
        exponentials[pairs + n] = e_im
        weights[n] = w_re
        weights[pairs + n] = w_im


@njit(nogil=True, error_model="numpy")
def discretise_backward(log_dt, log_decay, frequency, c, stored, pairs, d_z, d_w, d_log_decay, d_frequency, d_c):
    """Set the gradients of the parameters from those of z and w, (2, pairs) each; return the gradient of log_dt."""
    dt, d_dt = math.exp(np.float64(log_dt)), 0.0
    for n in range(stored):
        a_re, a_im = -math.exp(np.float64(log_decay[n])), np.float64(frequency[n])
        e_re, e_im, m_re = _exponential(dt * a_re, dt * a_im)
        q_re, q_im = _quotient(m_re, e_im, a_re, a_im)  # (e^z - 1)/A
        r_re, r_im = _quotient(e_re, e_im, a_re, a_im)  # e^z/A
        k_re, k_im = 2.0 * c[2 * n], 2.0 * c[2 * n + 1]
        g_re, g_im = np.float64(d_w[n]), np.float64(d_w[pairs + n])
        # w = 2 C q with q = (e^z - 1)/A, so dq = r dz - q/A dA with r = e^z/A.
        d_c[2 * n] = 2 * (g_re * q_re + g_im * q_im)
        d_c[2 * n + 1] = 2 * (g_im * q_re - g_re * q_im)
        h_re, h_im = g_re * k_re + g_im * k_im, g_im * k_re - g_re * k_im  # of q
        z_re = d_z[n] + h_re * r_re + h_im * r_im
        z_im = d_z[pairs + n] + h_im * r_re - h_re * r_im
        u_re, u_im = _quotient(q_re, q_im, a_re, a_im)
        d_a_re = dt * z_re - (h_re * u_re + h_im * u_im)
        d_a_im = dt * z_im - (h_im * u_re - h_re * u_im)
        d_dt += z_re * a_re + z_im * a_im
        d_log_decay[n] = d_a_re * a_re
        d_frequency[n] = d_a_im
    return d_dt * dt


@njit(nogil=True, error_model="numpy", inline="always")
def _exponential(x, y):
    """Return the real and imaginary part of e^z, and the real part of e^z - 1 (the imaginary part is the same)."""
    m, s, c = math.expm1(x), math.sin(y / 2), math.cos(y / 2)
    vers = 2 * s * s
    return (m + 1) * (1 - vers), (m + 1) * 2 * s * c, m * (1 - vers) - vers


@njit(nogil=True, error_model="numpy", inline="always")
def _quotient(x_re, x_im, y_re, y_im):
    scale = 1 / (y_re * y_re + y_im * y_im)
    return (x_re * y_re + x_im * y_im) * scale, (x_im * y_re - x_re * y_im) * scale
