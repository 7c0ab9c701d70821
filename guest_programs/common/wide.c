#include "wide.h"

/* Number of leading zero bits of d > 0, by halving: five masked steps instead of a loop. */
static inline u32 leading_zeros(u32 d) {
    u32 count = 0;
    for (u32 width = 16; width; width >>= 1) {
        u32 empty = (d >> (32u - width)) == 0;
        u32 shift = width & mask(empty);
        count += shift;
        d <<= shift;
    }
    return count;
}

/* One digit: floor((top * 65536 + next) / d) for top < d, d normalised (its top bit set). */
static inline u32 digit(u32 top, u32 next, u32 d, u32 *rest) {
    u32 d_high = d >> 16, d_low = d & 0xFFFFu;
    u32 q = top / d_high, r = top - q * d_high;
    /* The estimate is at most two too large (Knuth's theorem B); correct it twice, by mask. */
    for (int i = 0; i < 2; i++) {
        u32 large = (q >> 16) | (q * d_low > ((r << 16) | next));
        u32 wrong = mask((large != 0) & (r < 65536u));
        q += wrong;
        r += d_high & wrong;
    }
    *rest = ((top << 16) | next) - q * d;
    return q;
}

__attribute__((noinline)) u32 divide_digits(struct wide n, u32 d, u32 *remainder) {
    u32 shift = leading_zeros(d);
    d <<= shift;
    u32 top = (n.high << shift) | ((n.low >> 1) >> (31u - shift));
    u32 low = n.low << shift;
    u32 rest;
    u32 q_high = digit(top, low >> 16, d, &rest);
    u32 q_low = digit(rest, low & 0xFFFFu, d, &rest);
    *remainder = rest >> shift;
    return (q_high << 16) + q_low;
}

struct wide divide(struct wide n, u32 d, u32 *remainder) {
    struct wide q;
    q.high = n.high / d;
    n.high -= q.high * d;
    q.low = divide_digits(n, d, remainder);
    return q;
}
