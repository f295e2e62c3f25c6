/* The elementwise work of a LLaMA layer on a CPU, one pass over memory each.

   Compiled by `neva.train.kernels` once per machine, with -DBF16 for bfloat16 and without for
   float32. Arithmetic is float32; in bfloat16 results are rounded where Hugging Face's modules
   round them. Rows are contiguous. No global state; every function may run on any thread. */

#include <math.h>

#include "real.h"

static inline float reciprocal_root(float x) { return 1.0f / __builtin_sqrtf(x); }

/* sum = x + add; y = sum / rms(sum) * weight. `add` may be null, and then `sum` is not written. */
void rms_forward(int64_t rows, int64_t width, const real *x, const real *add, const real *weight,
                 float epsilon, real *sum, real *y, float *inverse) {
#pragma omp parallel for if (rows > 64)
    for (int64_t row = 0; row < rows; row++) {
        const real *from = x + row * width;
        real *to = y + row * width;
        if (add) {
            const real *more = add + row * width;
            real *whole = sum + row * width;
#pragma omp simd
            for (int64_t i = 0; i < width; i++) whole[i] = put(get(from[i]) + get(more[i]));
            from = whole;
        }
        float square = 0;
#pragma omp simd reduction(+ : square)
        for (int64_t i = 0; i < width; i++) square += get(from[i]) * get(from[i]);
        float scale = reciprocal_root(square / width + epsilon);
        inverse[row] = scale;
#pragma omp simd
        for (int64_t i = 0; i < width; i++)
            to[i] = put(rounded(get(from[i]) * scale) * get(weight[i]));
    }
}

/* y = x * inverse * weight: the normalised rows once more. */
void rms_again(int64_t rows, int64_t width, const real *x, const real *weight, const float *inverse,
               real *y) {
#pragma omp parallel for if (rows > 64)
    for (int64_t row = 0; row < rows; row++) {
        const real *from = x + row * width;
        real *to = y + row * width;
#pragma omp simd
        for (int64_t i = 0; i < width; i++)
            to[i] = put(rounded(get(from[i]) * inverse[row]) * get(weight[i]));
    }
}

/* dx = gradient of x through the norm, plus `residual`. dx may be g. */
void rms_backward(int64_t rows, int64_t width, const real *g, const real *x, const real *weight,
                  const float *inverse, const real *residual, real *dx) {
#pragma omp parallel for if (rows > 64)
    for (int64_t row = 0; row < rows; row++) {
        const real *grad = g + row * width, *from = x + row * width, *past = residual + row * width;
        real *to = dx + row * width;
        float scale = inverse[row], dot = 0;
#pragma omp simd reduction(+ : dot)
        for (int64_t i = 0; i < width; i++) dot += get(grad[i]) * get(weight[i]) * get(from[i]);
        float share = dot * scale * scale * scale / width;
#pragma omp simd
        for (int64_t i = 0; i < width; i++)
            to[i] = put(rounded(get(grad[i]) * get(weight[i]) * scale - get(from[i]) * share) +
                        get(past[i]));
    }
}

/* dweight (width,), float32: the sum over rows of g * x * inverse. */
void rms_weight(int64_t rows, int64_t width, const real *g, const real *x, const float *inverse,
                float *dweight) {
#pragma omp parallel for if (rows > 64)
    for (int64_t start = 0; start < width; start += 64) {
        int64_t count = width - start < 64 ? width - start : 64;
        float sum[64] = {0};
        for (int64_t row = 0; row < rows; row++) {
            const real *grad = g + row * width + start, *from = x + row * width + start;
#pragma omp simd
            for (int64_t i = 0; i < count; i++)
                sum[i] += get(grad[i]) * rounded(get(from[i]) * inverse[row]);
        }
        for (int64_t i = 0; i < count; i++) dweight[start + i] = sum[i];
    }
}

/* out = silu(gate) * up */
void swiglu_forward(int64_t count, const real *gate, const real *up, real *out) {
#pragma omp parallel for simd if (count > 65536)
    for (int64_t i = 0; i < count; i++) {
        float x = get(gate[i]);
        out[i] = put(rounded(x / (1.0f + exponential(-x))) * get(up[i]));
    }
}

static inline void swiglu_gradients(float grad, float x, float other, float *silu, real *dgate,
                                    real *dup) {
    float sigmoid = 1.0f / (1.0f + exponential(-x));
    *silu = rounded(x * sigmoid);
    *dgate = put(rounded(grad * other) * sigmoid * (1.0f + x * (1.0f - sigmoid)));
    *dup = put(grad * *silu);
}

/* Gradients of both, and the product once more unless `out` is null. dup may be g. */
void swiglu_backward(int64_t count, const real *g, const real *gate, const real *up, real *dgate,
                     real *dup, real *out) {
    if (!out) {
#pragma omp parallel for simd if (count > 65536)
        for (int64_t i = 0; i < count; i++) {
            float silu;
            swiglu_gradients(get(g[i]), get(gate[i]), get(up[i]), &silu, dgate + i, dup + i);
        }
        return;
    }
#pragma omp parallel for simd if (count > 65536)
    for (int64_t i = 0; i < count; i++) {
        float silu, other = get(up[i]);
        swiglu_gradients(get(g[i]), get(gate[i]), other, &silu, dgate + i, dup + i);
        out[i] = put(silu * other);
    }
}

/* One head's rotation by position, or back: the gradient's way. */
static inline void rotate(int64_t width, const real *x, const real *cos, const real *sin,
                          int64_t back, real *out) {
    int64_t half = width / 2;
    if (back) {
#pragma omp simd
        for (int64_t i = 0; i < half; i++) {
            float a = get(x[i]), b = get(x[i + half]);
            out[i] = put(rounded(a * get(cos[i])) + rounded(b * get(sin[i + half])));
            out[i + half] = put(rounded(b * get(cos[i + half])) - rounded(a * get(sin[i])));
        }
    } else {
#pragma omp simd
        for (int64_t i = 0; i < half; i++) {
            float a = get(x[i]), b = get(x[i + half]);
            out[i] = put(rounded(a * get(cos[i])) - rounded(b * get(sin[i])));
            out[i + half] = put(rounded(b * get(cos[i + half])) + rounded(a * get(sin[i + half])));
        }
    }
}

static inline void move(int64_t width, const real *x, const real *cos, const real *sin,
                        int64_t back, real *out) {
    if (cos) {
        rotate(width, x, cos, sin, back, out);
    } else {
#pragma omp simd
        for (int64_t i = 0; i < width; i++) out[i] = x[i];
    }
}

/* Heads of documents: rows (T, shared, group, width) <-> one block (shared, L, group, width) for
   each document, and back. cos and sin (T, width) rotate on the way; null: no rotation. */
void to_blocks(int64_t documents, const int32_t *borders, int64_t shared, int64_t group,
               int64_t width, const real *rows, const real *cos, const real *sin, int64_t back,
               real *blocks) {
    int64_t size = shared * group * width;
#pragma omp parallel for if (documents > 1) schedule(dynamic)
    for (int64_t document = 0; document < documents; document++) {
        int64_t start = borders[document], length = borders[document + 1] - start;
        for (int64_t at = 0; at < length; at++) {
            int64_t place = (start + at) * width;
            for (int64_t head = 0; head < shared * group; head++)
                move(width, rows + (start + at) * size + head * width, cos ? cos + place : 0,
                     sin ? sin + place : 0, back,
                     blocks + start * size +
                         ((head / group * length + at) * group + head % group) * width);
        }
    }
}

void from_blocks(int64_t documents, const int32_t *borders, int64_t shared, int64_t group,
                 int64_t width, const real *blocks, const real *cos, const real *sin, int64_t back,
                 real *rows) {
    int64_t size = shared * group * width;
#pragma omp parallel for if (documents > 1) schedule(dynamic)
    for (int64_t document = 0; document < documents; document++) {
        int64_t start = borders[document], length = borders[document + 1] - start;
        for (int64_t at = 0; at < length; at++) {
            int64_t place = (start + at) * width;
            for (int64_t head = 0; head < shared * group; head++)
                move(width,
                     blocks + start * size +
                         ((head / group * length + at) * group + head % group) * width,
                     cos ? cos + place : 0, sin ? sin + place : 0, back,
                     rows + (start + at) * size + head * width);
        }
    }
}

/* Causal softmax of scores (batch, rows, columns) in place. Row r is of position
   first + r / group, and sees the columns up to it; the others become 0. */
void softmax_forward(int64_t batch, int64_t rows, int64_t columns, int64_t first, int64_t group,
                     float scale, real *scores) {
#pragma omp parallel for if (batch * rows > 64)
    for (int64_t line = 0; line < batch * rows; line++) {
        real *row = scores + line * columns;
        int64_t seen = first + line % rows / group + 1;
        float most = get(row[0]), sum = 0;
#pragma omp simd reduction(max : most)
        for (int64_t i = 0; i < seen; i++) most = get(row[i]) > most ? get(row[i]) : most;
#pragma omp simd reduction(+ : sum)
        for (int64_t i = 0; i < seen; i++) sum += exponential((get(row[i]) - most) * scale);
        float share = 1.0f / sum;
#pragma omp simd
        for (int64_t i = 0; i < seen; i++)
            row[i] = put(exponential((get(row[i]) - most) * scale) * share);
        for (int64_t i = seen; i < columns; i++) row[i] = put(0.0f);
    }
}

/* The gradient of the scores in place of that of the weights. */
void softmax_backward(int64_t batch, int64_t rows, int64_t columns, int64_t first, int64_t group,
                      float scale, const real *weights, real *g) {
#pragma omp parallel for if (batch * rows > 64)
    for (int64_t line = 0; line < batch * rows; line++) {
        const real *weight = weights + line * columns;
        real *grad = g + line * columns;
        int64_t seen = first + line % rows / group + 1;
        float dot = 0;
#pragma omp simd reduction(+ : dot)
        for (int64_t i = 0; i < seen; i++) dot += get(weight[i]) * get(grad[i]);
#pragma omp simd
        for (int64_t i = 0; i < seen; i++)
            grad[i] = put(get(weight[i]) * (get(grad[i]) - dot) * scale);
        for (int64_t i = seen; i < columns; i++) grad[i] = put(0.0f);
    }
}

/* Cross-entropy of logits (rows, count) at targets (rows,); if it `learns`, its gradient takes the
   place of the logits. A row stays in the second cache between its passes. */
void entropy(int64_t rows, int64_t count, const int64_t *targets, int64_t learns, real *logits,
             float *losses) {
#pragma omp parallel for
    for (int64_t at = 0; at < rows; at++) {
        real *row = logits + at * count;
        float most = get(row[0]), wanted = get(row[targets[at]]), sum = 0;
#pragma omp simd reduction(max : most)
        for (int64_t i = 0; i < count; i++) most = get(row[i]) > most ? get(row[i]) : most;
#pragma omp simd reduction(+ : sum)
        for (int64_t i = 0; i < count; i++) sum += exponential(get(row[i]) - most);
        losses[at] = most + logf(sum) - wanted;
        if (!learns) continue;
        float share = 1.0f / sum;
#pragma omp simd
        for (int64_t i = 0; i < count; i++)
            row[i] = put(exponential(get(row[i]) - most) * share);
        row[targets[at]] = put(exponential(wanted - most) * share - 1.0f);
    }
}
