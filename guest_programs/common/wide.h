/* 64-bit arithmetic from 32-bit words, without branches: a mask is 0 or 0xFFFFFFFF. */
#ifndef BTCFI_WIDE_H
#define BTCFI_WIDE_H

#include "abi.h"

struct wide {
    u32 low;
    u32 high;
};

static inline u32 mask(u32 bit) { return 0u - bit; }

/* A value that the compiler cannot see through: without it a choice by mask can become a branch. */
static inline u32 opaque(u32 value) {
    __asm__("" : "+r"(value));
    return value;
}

static inline u32 high_word_of_product(u32 a, u32 b) { return (u32)(((u64)a * b) >> 32); }

static inline struct wide product(u32 a, u32 b) {
    struct wide result = {a * b, high_word_of_product(a, b)};
    return result;
}

/* floor(n / d) for n.high < d: two base-65536 digits (Knuth, TAOCP 2, 4.3.1, algorithm D). */
u32 divide_digits(struct wide n, u32 d, u32 *remainder);

/* floor(n / d), d > 0. */
struct wide divide(struct wide n, u32 d, u32 *remainder);

#endif
