"""An independent float64 reading of the paper's equations: explicit, slow, no shared code."""

from __future__ import annotations

import numpy as np


def append_bias(weight, bias):
    """A = [W b], so that e = A [z; 1]."""
    return weight if bias is None else np.concatenate([weight, bias.reshape(-1, 1)], axis=1)


def append_one(features, bias):
    """z~ = [z; 1] for a head with a bias."""
    return features if bias is None else np.concatenate([features, np.ones((len(features), 1))], 1)


def rewritten_projectors(image, text, drop_top, drop_bottom):
    """theta_i = A_i U_mid U_mid^T and theta_t = A_t V_mid V_mid^T from the full SVD of Psi."""
    psi = image.T @ text
    u, s, vt = np.linalg.svd(psi, full_matrices=True)
    rank = np.linalg.matrix_rank(psi)
    middle = range(drop_top, rank - drop_bottom)
    u_mid = np.stack([u[:, j] for j in middle], axis=1)
    v_mid = np.stack([vt[j, :] for j in middle], axis=1)
    return image @ u_mid @ u_mid.T, text @ v_mid @ v_mid.T, s[:rank]


def cosines(left, right):
    """Every cosine between two sets of rows."""
    return np.array(
        [
            [float(a @ b) / (np.sqrt(float(a @ a)) * np.sqrt(float(b @ b))) for b in right]
            for a in left
        ]
    )
