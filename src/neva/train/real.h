/* The numbers of `kernels.c` and `attention.c`: bfloat16 with -DBF16, else float32; arithmetic is
   float32 in both. */

#pragma once
#include <stdint.h>

#ifdef BF16
typedef uint16_t real;
static inline float get(real value) {
    union { uint32_t bits; float number; } both = {(uint32_t)value << 16};
    return both.number;
}
/* To the nearest, ties to even. NaNs that arithmetic makes, and those of bfloat16, stay NaNs: their
   low bits are zeros, so that nothing is carried into the sign. */
static inline real put(float value) {
    union { float number; uint32_t bits; } both = {value};
    return (real)((both.bits + 0x7fff + ((both.bits >> 16) & 1)) >> 16);
}
#else
typedef float real;
static inline float get(real value) { return value; }
static inline real put(float value) { return value; }
#endif
static inline float rounded(float value) { return get(put(value)); }

/* exp to 2 ulp, in a form that compilers turn into vector code (Cephes' polynomial). */
static inline float exponential(float x) {
    x = x < -87.0f ? -87.0f : x > 88.0f ? 88.0f : x;
    float whole = x * 1.44269504f + 12582912.0f; /* 1.5 * 2^23: rounds to the nearest integer */
    union { float number; int32_t bits; } power = {whole};
    whole -= 12582912.0f;
    float rest = x - whole * 0.693359375f + whole * 2.12194440e-4f;
    float sum = 1.9875691500e-4f;
    sum = sum * rest + 1.3981999507e-3f;
    sum = sum * rest + 8.3334519073e-3f;
    sum = sum * rest + 4.1665795894e-2f;
    sum = sum * rest + 1.6666665459e-1f;
    sum = sum * rest + 5.0000001201e-1f;
    sum = sum * rest * rest + rest + 1.0f;
    union { int32_t bits; float number; } scale = {(power.bits - 0x4b400000 + 127) << 23};
    return sum * scale.number;
}
