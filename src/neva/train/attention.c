/* Causal attention within short documents, all of them in one call: forwards and backwards.

   A product of a few dozen rows costs a library more to begin than to compute, and a packed row
   holds dozens of documents with several heads each. Here a task is one document's head of keys
   with the queries that share it; what it multiplies lies in float32 in the first two caches.
   Queries of a document lie as (L, group, width), keys and values as (L, width): `to_blocks`. */

#include <stdlib.h>
#include <string.h>

#include "real.h"

#ifdef __AVX512F__
#define LANES 16
#else
#define LANES 8
#endif
#define ROWS 24 /* queries at once; a multiple of 6, the rows of a tile */

typedef float lanes __attribute__((vector_size(4 * LANES), aligned(4)));

static inline int64_t filled(int64_t count) { return (count + LANES - 1) / LANES * LANES; }

/* A matrix whose element (r, i) lies at at[r * down + i * across]. */
typedef struct { const float *at; int64_t down, across; } matrix;

/* c (rows, 16 or 32 columns) = or += a (rows, inner) @ b (inner, columns). */
static inline __attribute__((always_inline)) void tile(const int rows, const int wide, int add,
                                                       int64_t inner, matrix a, const float *b,
                                                       int64_t b_down, float *c, int64_t c_down) {
    lanes sum[6][2];
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < wide; v++)
            sum[r][v] = add ? *(const lanes *)(c + r * c_down + v * LANES) : (lanes){0};
    for (int64_t i = 0; i < inner; i++) {
        lanes line[2];
        for (int v = 0; v < wide; v++) line[v] = *(const lanes *)(b + i * b_down + v * LANES);
        for (int r = 0; r < rows; r++) {
            float one = a.at[r * a.down + i * a.across];
            for (int v = 0; v < wide; v++) sum[r][v] += one * line[v];
        }
    }
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < wide; v++) *(lanes *)(c + r * c_down + v * LANES) = sum[r][v];
}

/* c (rows, columns) = or += a (rows, inner) @ b (inner, columns); columns fill whole lanes. */
static void multiply(int64_t rows, int64_t columns, int64_t inner, int add, matrix a,
                     const float *b, int64_t b_down, float *c, int64_t c_down) {
    for (int64_t row = 0; row < rows; row += 6) {
        matrix part = {a.at + row * a.down, a.down, a.across};
        for (int64_t at = 0; at < columns; at += 2 * LANES) {
            const float *from = b + at;
            float *to = c + row * c_down + at;
            int two = columns - at > LANES;
            if (rows - row >= 6 && two) {
                tile(6, 2, add, inner, part, from, b_down, to, c_down);
            } else if (rows - row >= 6) {
                tile(6, 1, add, inner, part, from, b_down, to, c_down);
            } else {
                for (int64_t r = 0; r < rows - row; r++) {
                    matrix single = {part.at + r * a.down, a.down, a.across};
                    if (two) tile(1, 2, add, inner, single, from, b_down, to + r * c_down, c_down);
                    else tile(1, 1, add, inner, single, from, b_down, to + r * c_down, c_down);
                }
            }
        }
    }
}

/* (rows, width) -> float32 (rows, wide), zeros beyond; and, if wanted, its transpose. */
static void unpack(int64_t rows, int64_t width, int64_t wide, const real *x, float *out) {
    for (int64_t row = 0; row < rows; row++) {
        for (int64_t i = 0; i < width; i++) out[row * wide + i] = get(x[row * width + i]);
        for (int64_t i = width; i < wide; i++) out[row * wide + i] = 0;
    }
}

static void transpose(int64_t rows, int64_t columns, const float *x, int64_t down, float *out) {
    for (int64_t column = 0; column < columns; column++) {
        float *line = out + column * filled(rows);
        for (int64_t row = 0; row < rows; row++) line[row] = x[row * down + column];
        for (int64_t row = rows; row < filled(rows); row++) line[row] = 0;
    }
}

static void pack(int64_t rows, int64_t width, int64_t wide, const float *x, real *out) {
    for (int64_t row = 0; row < rows; row++)
        for (int64_t i = 0; i < width; i++) out[row * width + i] = put(x[row * wide + i]);
}

/* Scores of queries that begin at row `first` become weights; what they do not see becomes 0. */
static void weigh(int64_t rows, int64_t columns, int64_t first, int64_t group, float scale,
                  float *scores, int64_t down) {
    for (int64_t r = 0; r < rows; r++) {
        float *row = scores + r * down, most = row[0], sum = 0;
        int64_t seen = (first + r) / group + 1;
#pragma omp simd reduction(max : most)
        for (int64_t i = 0; i < seen; i++) most = row[i] > most ? row[i] : most;
#pragma omp simd reduction(+ : sum)
        for (int64_t i = 0; i < seen; i++) {
            row[i] = exponential((row[i] - most) * scale);
            sum += row[i];
        }
        float share = 1.0f / sum;
#pragma omp simd
        for (int64_t i = 0; i < seen; i++) row[i] *= share;
        for (int64_t i = seen; i < columns; i++) row[i] = 0;
    }
}

/* The gradient of the weights becomes that of the scores. */
static void weigh_backward(int64_t rows, int64_t columns, float scale, const float *weights,
                           float *g, int64_t down) {
    for (int64_t r = 0; r < rows; r++) {
        const float *weight = weights + r * down;
        float *grad = g + r * down, dot = 0;
#pragma omp simd reduction(+ : dot)
        for (int64_t i = 0; i < columns; i++) dot += weight[i] * grad[i];
#pragma omp simd
        for (int64_t i = 0; i < columns; i++) grad[i] = weight[i] * (grad[i] - dot) * scale;
    }
}

/* One head of keys (length, width) and its queries (length * group, width). */
static int attend(int64_t length, int64_t group, int64_t width, float scale, const real *query,
                  const real *key, const real *value, real *out) {
    int64_t wide = filled(width), lined = filled(length);
    float *room = malloc(4 * (2 * length * wide + wide * lined + ROWS * (2 * wide + lined)));
    if (!room) return 1;
    float *keys = room, *values = keys + length * wide, *turned = values + length * wide;
    float *asked = turned + wide * lined, *scores = asked + ROWS * wide;
    float *result = scores + ROWS * lined;
    unpack(length, width, wide, key, keys);
    unpack(length, width, wide, value, values);
    transpose(length, wide, keys, wide, turned);
    for (int64_t first = 0; first < length * group; first += ROWS) {
        int64_t rows = length * group - first < ROWS ? length * group - first : ROWS;
        int64_t seen = (first + rows - 1) / group + 1, columns = filled(seen);
        unpack(rows, width, wide, query + first * width, asked);
        multiply(rows, columns, width, 0, (matrix){asked, wide, 1}, turned, lined, scores, lined);
        weigh(rows, columns, first, group, scale, scores, lined);
        multiply(rows, wide, seen, 0, (matrix){scores, lined, 1}, values, wide, result, wide);
        pack(rows, width, wide, result, out + first * width);
    }
    free(room);
    return 0;
}

static int attend_backward(int64_t length, int64_t group, int64_t width, float scale,
                           const real *g, const real *query, const real *key, const real *value,
                           real *dquery, real *dkey, real *dvalue) {
    int64_t wide = filled(width), lined = filled(length);
    float *room = malloc(4 * (4 * length * wide + 2 * wide * lined + ROWS * (3 * wide + 2 * lined)));
    if (!room) return 1;
    float *keys = room, *values = keys + length * wide;
    float *dkeys = values + length * wide, *dvalues = dkeys + length * wide;
    float *turned = dvalues + length * wide, *turned_values = turned + wide * lined;
    float *asked = turned_values + wide * lined, *grads = asked + ROWS * wide;
    float *result = grads + ROWS * wide, *weights = result + ROWS * wide;
    float *scores = weights + ROWS * lined;
    unpack(length, width, wide, key, keys);
    unpack(length, width, wide, value, values);
    transpose(length, wide, keys, wide, turned);
    transpose(length, wide, values, wide, turned_values);
    memset(dkeys, 0, 4 * 2 * length * wide);
    for (int64_t first = 0; first < length * group; first += ROWS) {
        int64_t rows = length * group - first < ROWS ? length * group - first : ROWS;
        int64_t seen = (first + rows - 1) / group + 1, columns = filled(seen);
        matrix by_row = {scores, lined, 1}, by_key = {scores, 1, lined};
        unpack(rows, width, wide, query + first * width, asked);
        unpack(rows, width, wide, g + first * width, grads);
        multiply(rows, columns, width, 0, (matrix){asked, wide, 1}, turned, lined, weights, lined);
        weigh(rows, columns, first, group, scale, weights, lined);
        multiply(rows, columns, width, 0, (matrix){grads, wide, 1}, turned_values, lined, scores,
                 lined);
        multiply(seen, wide, rows, 1, (matrix){weights, 1, lined}, grads, wide, dvalues, wide);
        weigh_backward(rows, columns, scale, weights, scores, lined);
        multiply(rows, wide, seen, 0, by_row, keys, wide, result, wide);
        pack(rows, width, wide, result, dquery + first * width);
        multiply(seen, wide, rows, 1, by_key, asked, wide, dkeys, wide);
    }
    pack(length, width, wide, dkeys, dkey);
    pack(length, width, wide, dvalues, dvalue);
    free(room);
    return 0;
}

/* All documents of at most `longest` tokens; the others are left alone. Returns 0, or 1 where there
   was no memory. */
int64_t attend_forward_all(int64_t documents, const int32_t *borders, int64_t shared,
                           int64_t group, int64_t width, int64_t longest, float scale,
                           const real *query, const real *key, const real *value, real *out) {
    int failed = 0;
#pragma omp parallel for schedule(dynamic) reduction(| : failed)
    for (int64_t task = 0; task < documents * shared; task++) {
        int64_t document = task / shared, start = borders[document];
        int64_t length = borders[document + 1] - start;
        if (length > longest || length == 0) continue;
        int64_t keys = (start * shared + task % shared * length) * width;
        failed |= attend(length, group, width, scale, query + keys * group, key + keys,
                         value + keys, out + keys * group);
    }
    return failed;
}

int64_t attend_backward_all(int64_t documents, const int32_t *borders, int64_t shared,
                            int64_t group, int64_t width, int64_t longest, float scale,
                            const real *g, const real *query, const real *key, const real *value,
                            real *dquery, real *dkey, real *dvalue) {
    int failed = 0;
#pragma omp parallel for schedule(dynamic) reduction(| : failed)
    for (int64_t task = 0; task < documents * shared; task++) {
        int64_t document = task / shared, start = borders[document];
        int64_t length = borders[document + 1] - start;
        if (length > longest || length == 0) continue;
        int64_t keys = (start * shared + task % shared * length) * width;
        int64_t queries = keys * group;
        failed |= attend_backward(length, group, width, scale, g + queries, query + queries,
                                  key + keys, value + keys, dquery + queries, dkey + keys,
                                  dvalue + keys);
    }
    return failed;
}
