"""Equations 1 to 8 of the STALE paper (ECCV 2022, section 3) in NumPy, one video at a time, from named weights.

Shares no code and no constant with the model; numbers from the paper or its deviations are repeated here.
"""

import math

import numpy as np

LOWEST_TEMPERATURE = 0.01
POSITION_RANGE = 8.0
LAYER_NORM = 1e-5
SHORTEST = 1e-6  # added to a squared length before its root


def stale(weights, features, classes, *, n_heads, threshold):
    """class_logits (K + 1, T), masks (T, T) and foreground (T,) of features (T, C) and class embeddings (K, D)."""
    w = {name: np.asarray(value, dtype=np.float64) for name, value in weights.items()}
    embedding = equation_1(w, np.asarray(features, dtype=np.float64), n_heads)
    background = unit(w["background"])
    text = np.concatenate([unit(np.asarray(classes, dtype=np.float64)), background])
    foreground = equations_3_and_4(w, embedding, n_heads)
    on = foreground > threshold
    snippets = np.where(on[:, None], unit(embedding), background)
    text = equations_5_and_6(w, text, snippets, on, n_heads)
    return equation_7(w, text, snippets), equation_8(w, embedding), foreground


def equation_1(w, features, n_heads):
    """F_vis = T(E): self-attention without positions, after subtracting each video's mean."""
    x = (features - features.mean(axis=0)) * w["temporal.normalize.scale"]
    x = linear(w, "temporal.project", x)
    for layer in range(count(w, "temporal.layers")):
        name = f"temporal.layers.{layer}"
        x = x + self_attention(w, f"{name}.attention", norm(w, f"{name}.attention_norm", x), n_heads)
        x = x + feedforward(w, f"{name}.feedforward", norm(w, f"{name}.feedforward_norm", x))
    return norm(w, "temporal.norm", x)


def equations_3_and_4(w, embedding, n_heads):
    """L_q = σ(B_q F_vis / sqrt(D)), L̂ = σ(MLP(L_q))."""
    queries = w["masking.queries"][0]
    for layer in range(count(w, "masking.decoder")):
        queries = decoder_layer(w, f"masking.decoder.{layer}", queries, embedding, n_heads)
    x = norm(w, "masking.norm", queries)
    x = np.maximum(linear(w, "masking.mask_projection.0", x), 0)
    x = np.maximum(linear(w, "masking.mask_projection.2", x), 0)
    mask_embeddings = linear(w, "masking.mask_projection.4", x)  # B_q
    query_masks = sigmoid(embedding @ mask_embeddings.T / math.sqrt(embedding.shape[1]))
    hidden = np.maximum(linear(w, "masking.query_weights.0", query_masks), 0)
    return sigmoid(linear(w, "masking.query_weights.2", hidden))[:, 0]


def equations_5_and_6(w, text, snippets, on, n_heads):
    """Ê_c = T_c(F_lan, F_fg, F_fg), F̂_lan = F_lan + α Ê_c: the classes attend to foreground snippets only."""
    memory = norm(w, "adaption.snippet_norm", snippets)
    if on.any():
        memory = memory[on]
    return text + w["adaption.alpha"] * norm(
        w, "adaption.norm", decoder_layer(w, "adaption.layer", text, memory, n_heads)
    )


def equation_7(w, text, snippets):
    """Cosine over the temperature, which has a lower bound."""
    temperature = max(math.exp(float(w["classifier.log_temperature"])), LOWEST_TEMPERATURE)
    return unit(text) @ snippets.T / temperature


def equation_8(w, embedding):
    """M: each snippet's own network along the video, on base features and the place relative to its own."""
    n = len(embedding)
    base = convolution(w, "localizer.base.2", np.maximum(convolution(w, "localizer.base.0", embedding), 0))
    x = np.maximum(convolution(w, "localizer.controller.0", embedding), 0)
    x = np.maximum(convolution(w, "localizer.controller.2", x), 0)
    numbers = linear(w, "localizer.controller.4", x)
    h = base.shape[1]
    masks = np.zeros((n, n))
    for i in range(n):
        w1, slope, b1, w2, b2, w3, b3 = np.split(numbers[i], np.cumsum([h * h, h, h, h * h, h, h]))
        for t in range(n):
            place = POSITION_RANGE * (t - i) / n
            hidden = np.maximum(w1.reshape(h, h) @ base[t] + slope * place + b1, 0)
            hidden = np.maximum(w2.reshape(h, h) @ hidden + b2, 0)
            masks[i, t] = sigmoid(w3 @ hidden + b3[0])
    return masks


# --- what they are made of ------------------------------------------------------------------------------------------


def decoder_layer(w, name, queries, memory, n_heads):
    queries = queries + self_attention(w, f"{name}.self_attention", norm(w, f"{name}.self_norm", queries), n_heads)
    q = linear(w, f"{name}.cross_attention.query", norm(w, f"{name}.cross_norm", queries))
    k, v = np.split(linear(w, f"{name}.cross_attention.key_value", memory), 2, axis=1)
    queries = queries + linear(w, f"{name}.cross_attention.out", attention(q, k, v, n_heads))
    return queries + feedforward(w, f"{name}.feedforward", norm(w, f"{name}.feedforward_norm", queries))


def self_attention(w, name, x, n_heads):
    q, k, v = np.split(linear(w, f"{name}.query_key_value", x), 3, axis=1)
    return linear(w, f"{name}.out", attention(q, k, v, n_heads))


def attention(q, k, v, n_heads):
    parts = []
    for q_h, k_h, v_h in zip(*(np.split(x, n_heads, axis=1) for x in (q, k, v)), strict=True):
        logits = q_h @ k_h.T / math.sqrt(q_h.shape[1])
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        parts.append(powers / powers.sum(axis=1, keepdims=True) @ v_h)
    return np.concatenate(parts, axis=1)


def feedforward(w, name, x):
    hidden = linear(w, f"{name}.0", x)
    gelu = hidden * 0.5 * (1 + np.vectorize(math.erf)(hidden / math.sqrt(2)))
    return linear(w, f"{name}.3", gelu)


def convolution(w, name, x):
    """Three snippets wide, zeros beyond both ends."""
    padded = np.pad(x, ((1, 1), (0, 0)))
    return linear(w, f"{name}.linear", np.concatenate([padded[:-2], padded[1:-1], padded[2:]], axis=1))


def linear(w, name, x):
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def norm(w, name, x):
    centred = x - x.mean(axis=-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + LAYER_NORM)
    return scaled * w[f"{name}.weight"] + w[f"{name}.bias"]


def unit(x):
    return x / np.sqrt((x**2).sum(axis=-1, keepdims=True) + SHORTEST)


def sigmoid(x):
    return (1 + np.tanh(x / 2)) / 2


def count(w, name):
    return len({key.removeprefix(f"{name}.").split(".")[0] for key in w if key.startswith(f"{name}.")})
