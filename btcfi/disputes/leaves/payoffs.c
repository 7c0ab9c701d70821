/* Settling values, without a branch and without memory: arguments in a0 to a7, the answer in a0.
 *
 * Choices are masks behind an empty asm, or the compiler makes branches of them. Built by the tests with the pinned
 * compiler, and compared with the words in payoffs.py.
 */
typedef unsigned u32;
#define OPAQUE(x) __asm__("" : "+r"(x))

static inline u32 mask(u32 c) { u32 m = -c; OPAQUE(m); return m; }
static inline u32 choose(u32 c, u32 a, u32 b) { return b ^ ((a ^ b) & mask(c)); }
static inline u32 smaller(u32 a, u32 b) { return choose(a < b, a, b); }
static inline u32 larger(u32 a, u32 b) { return choose(a < b, b, a); }
static inline u32 above(u32 a, u32 b) { return (a - b) & mask(b < a); }

u32 price(u32 s) { return s; }

/* steps of 2^shift dollars above a strike, up to a cap: K and cap are of the contract */
u32 capped_call(u32 s, u32 strike, u32 cap) { return smaller(above(s, strike), cap) >> 6; }
u32 capped_put(u32 s, u32 strike, u32 cap) { return smaller(above(strike, s), cap) >> 6; }
u32 binary_call(u32 s, u32 strike) { u32 c = s < strike; OPAQUE(c); return c ^ 1; }

u32 sum2(u32 a, u32 b) { return a + b; }
u32 sum3(u32 a, u32 b, u32 c) { return a + b + c; }
u32 sum4(u32 a, u32 b, u32 c, u32 d) { return a + b + c + d; }
u32 sum5(u32 a, u32 b, u32 c, u32 d, u32 e) { return a + b + c + d + e; }
u32 sum6(u32 a, u32 b, u32 c, u32 d, u32 e, u32 f) { return a + b + c + d + e + f; }
u32 sum7(u32 a, u32 b, u32 c, u32 d, u32 e, u32 f, u32 g) { return a + b + c + d + e + f + g; }
u32 sum8(u32 a, u32 b, u32 c, u32 d, u32 e, u32 f, u32 g, u32 h) { return a + b + c + d + e + f + g + h; }

u32 median3(u32 a, u32 b, u32 c) { return larger(smaller(a, b), smaller(larger(a, b), c)); }

/* the last price, or 2^18, which no price is, once one is at the barrier or above it */
u32 knock_out3(u32 a, u32 b, u32 c, u32 barrier) {
  u32 x = a < barrier, y = b < barrier, z = c < barrier;
  OPAQUE(x); OPAQUE(y); OPAQUE(z);
  u32 under = x & y & z;
  return choose(under, c, 1u << 18);
}
