"""S4D compiled by numba for CPUs: exact, in time linear in L, at a small fraction of the cost of the dense layers.

The algorithm is that of `chunked`, in its own loops. Per channel and layer, K_l = Re(sum_n w_n a_n^l) with a = e^z
(`discretisation`), and a sequence cut into chunks of C positions:

    y_k = u_k T + Re(h_k W),    T[j, i] = K[i - j] for i >= j,    W[n, i] = w_n a_n^(i + 1)
    h_(k+1) = a^C h_k + s_k,    s_k = u_k V,                      V[j, n] = a_n^(C - 1 - j)

for a layer that runs left to right; one that runs right to left is its mirror image (T transposed, rows of V and
columns of W in reverse order, the state carried from the right). A short sequence is one chunk: a product with T and
nothing else. The skip is part of K_0.

The backward pass keeps nothing but u and the parameters, and recomputes tables and states. With g the gradient of y,
for a layer that runs left to right, the gradients are

    of T: sum_l of its diagonals, dK_l = sum_rows sum_j u_j g_(j + l);   of W: sum_rows h^* g;   of h: g W^H
    of s, carried from the right: d_k = conj(a^C) d_(k+1) + (g W^H)_(k+1);   of a^C: sum conj(h_k) d_k
    of V: sum_rows u d;                                                   of u: g T^T + Re(d V^H)

and with E_l the gradient of w a^l, in K and in W, and F_l that of a^l, in V and in the carry,

    dw = sum_l E_l conj(a^l),    dz = sum_l l (conj(w) E_l + F_l) conj(a^l)

from which `discretisation` computes those of the parameters.

A thread takes eight or sixteen channels at a time (`arguments`), transposes them from (B, L, D) into rows (`layout`),
fills a channel's tables (`channel`), and multiplies in tiles that stay in registers (`tile`, `products`); `kernels`
combines these. Powers of a are computed by doubling from double-precision squares, with one float32 rounding each. The
order of summation depends on B, L and C alone: results are bit-identical for any number of threads."""
