/*
 * SHA-256 of many short messages that share a first block: the trace tree's leaves and nodes.
 *
 * Two ways, chosen by the CPU at run time: the SHA instructions, two messages interleaved to hide their latency, or
 * eight messages side by side in AVX2. No libc, no state, no allocation. Source: FIPS 180-4; Intel SDM, SHA256RNDS2.
 */
#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

typedef uint32_t u32;
typedef uint8_t u8;

#define ROW_WORDS 38
#define SHA_NI __attribute__((target("sha,sse4.1,ssse3")))
#define AVX2 __attribute__((target("avx2")))

static const u32 K[64] __attribute__((aligned(64))) = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01,
    0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc,
    0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147,
    0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08,
    0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208,
    0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static void copy(u8 *to, const u8 *from, size_t n) { for (size_t i = 0; i < n; i++) to[i] = from[i]; }

/* A leaf's message after the tag block: 150 bytes of row, padded to three blocks. total = 64 + 150 bytes. */
static inline void leaf_blocks(u8 *block, const u32 *row) {
    __builtin_memcpy_inline(block, row, 140);
    block[140] = (u8)row[35];
    block[141] = (u8)(row[35] >> 8);
    __builtin_memcpy_inline(block + 142, row + 36, 8);
    block[150] = 0x80;
    __builtin_memset_inline(block + 151, 0, 39);
    block[190] = (u8)((64 + 150) * 8 >> 8);
    block[191] = (u8)((64 + 150) * 8);
}

/* A node's message after the tag block: two digests, then one block of padding. total = 64 + 64 bytes. */
static inline void node_blocks(u8 *block, const u8 *pair) {
    __builtin_memcpy_inline(block, pair, 64);
    block[64] = 0x80;
    __builtin_memset_inline(block + 65, 0, 61);
    block[126] = (u8)((64 + 64) * 8 >> 8);
    block[127] = (u8)((64 + 64) * 8);
}

#define ROUNDS4(S0, S1, M, k)                                                                                          \
    do {                                                                                                               \
        __m128i t = _mm_add_epi32(M, _mm_load_si128((const __m128i *)(K + (k))));                                      \
        S1 = _mm_sha256rnds2_epu32(S1, S0, t);                                                                         \
        S0 = _mm_sha256rnds2_epu32(S0, S1, _mm_shuffle_epi32(t, 0x0E));                                                \
    } while (0)
#define SCHEDULE(A, B, C, D)                                                                                           \
    A = _mm_sha256msg2_epu32(_mm_add_epi32(_mm_sha256msg1_epu32(A, B), _mm_alignr_epi8(D, C, 4)), D)

/* Two messages of `blocks` blocks each, from one starting state. */
SHA_NI static inline void two_by_sha(const u8 *a, const u8 *b, int blocks, const u32 *start, u8 *out_a, u8 *out_b) {
    const __m128i swap = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
    __m128i low = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)start), 0xB1);
    __m128i high = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)(start + 4)), 0x1B);
    __m128i a0 = _mm_alignr_epi8(low, high, 8), a1 = _mm_blend_epi16(high, low, 0xF0), b0 = a0, b1 = a1;
    for (int n = 0; n < blocks; n++) {
        __m128i sa0 = a0, sa1 = a1, sb0 = b0, sb1 = b1, ma[4], mb[4];
#pragma clang loop unroll(full)
        for (int i = 0; i < 4; i++) {
            ma[i] = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(a + 64 * n + 16 * i)), swap);
            mb[i] = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(b + 64 * n + 16 * i)), swap);
        }
#pragma clang loop unroll(full)
        for (int i = 0; i < 16; i++) {
            ROUNDS4(a0, a1, ma[i & 3], 4 * i);
            ROUNDS4(b0, b1, mb[i & 3], 4 * i);
            if (i < 12) {
                SCHEDULE(ma[i & 3], ma[(i + 1) & 3], ma[(i + 2) & 3], ma[(i + 3) & 3]);
                SCHEDULE(mb[i & 3], mb[(i + 1) & 3], mb[(i + 2) & 3], mb[(i + 3) & 3]);
            }
        }
        a0 = _mm_add_epi32(a0, sa0);
        a1 = _mm_add_epi32(a1, sa1);
        b0 = _mm_add_epi32(b0, sb0);
        b1 = _mm_add_epi32(b1, sb1);
    }
#define FINISH(S0, S1, out)                                                                                            \
    do {                                                                                                               \
        __m128i x = _mm_shuffle_epi32(S0, 0x1B), y = _mm_shuffle_epi32(S1, 0xB1);                                      \
        _mm_storeu_si128((__m128i *)(out), _mm_shuffle_epi8(_mm_blend_epi16(x, y, 0xF0), swap));                       \
        _mm_storeu_si128((__m128i *)((out) + 16), _mm_shuffle_epi8(_mm_alignr_epi8(y, x, 8), swap));                   \
    } while (0)
    FINISH(a0, a1, out_a);
    FINISH(b0, b1, out_b);
}

SHA_NI static void leaves_by_sha(const u32 *rows, size_t n, const u32 *start, u8 *out) {
    u8 a[192], b[192], spare[32];
    for (size_t i = 0; i < n; i += 2) {
        int pair = i + 1 < n;
        leaf_blocks(a, rows + i * ROW_WORDS);
        leaf_blocks(b, rows + (i + pair) * ROW_WORDS);
        two_by_sha(a, b, 3, start, out + 32 * i, pair ? out + 32 * i + 32 : spare);
    }
}

SHA_NI static void nodes_by_sha(const u8 *pairs, size_t n, const u32 *start, u8 *out) {
    u8 a[128], b[128], spare[32];
    for (size_t i = 0; i < n; i += 2) {
        int two = i + 1 < n;
        node_blocks(a, pairs + 64 * i);
        node_blocks(b, pairs + 64 * (i + two));
        two_by_sha(a, b, 2, start, out + 32 * i, two ? out + 32 * i + 32 : spare);
    }
}

#define ROTATE(x, n) _mm256_or_si256(_mm256_srli_epi32(x, n), _mm256_slli_epi32(x, 32 - (n)))
#define XOR3(x, y, z) _mm256_xor_si256(_mm256_xor_si256(x, y), z)
#define ADD _mm256_add_epi32

/* Eight messages of `blocks` blocks, `stride` bytes apart, one a 32-bit lane. */
AVX2 static void eight_by_avx2(const u8 *messages, size_t stride, int blocks, const u32 *start, u8 *out) {
    __m256i state[8], w[16];
    for (int i = 0; i < 8; i++)
        state[i] = _mm256_set1_epi32((int)start[i]);
    for (int n = 0; n < blocks; n++) {
        for (int i = 0; i < 16; i++) {
            u32 word[8] __attribute__((aligned(32)));
            for (int lane = 0; lane < 8; lane++) {
                __builtin_memcpy_inline(&word[lane], messages + lane * stride + 64 * n + 4 * i, 4);
                word[lane] = __builtin_bswap32(word[lane]);
            }
            w[i] = _mm256_load_si256((const __m256i *)word);
        }
        __m256i a = state[0], b = state[1], c = state[2], d = state[3], e = state[4], f = state[5], g = state[6],
                h = state[7];
#pragma clang loop unroll(full)
        for (int i = 0; i < 64; i++) {
            if (i >= 16) {
                __m256i x = w[(i + 1) & 15], y = w[(i + 14) & 15];
                __m256i s0 = XOR3(ROTATE(x, 7), ROTATE(x, 18), _mm256_srli_epi32(x, 3));
                __m256i s1 = XOR3(ROTATE(y, 17), ROTATE(y, 19), _mm256_srli_epi32(y, 10));
                w[i & 15] = ADD(ADD(w[i & 15], s0), ADD(w[(i + 9) & 15], s1));
            }
            __m256i t1 = ADD(ADD(h, XOR3(ROTATE(e, 6), ROTATE(e, 11), ROTATE(e, 25))),
                             ADD(_mm256_xor_si256(g, _mm256_and_si256(e, _mm256_xor_si256(f, g))),
                                 ADD(w[i & 15], _mm256_set1_epi32((int)K[i]))));
            __m256i t2 = ADD(XOR3(ROTATE(a, 2), ROTATE(a, 13), ROTATE(a, 22)),
                             _mm256_or_si256(_mm256_and_si256(a, b), _mm256_and_si256(c, _mm256_or_si256(a, b))));
            h = g, g = f, f = e, e = ADD(d, t1), d = c, c = b, b = a, a = ADD(t1, t2);
        }
        state[0] = ADD(state[0], a), state[1] = ADD(state[1], b), state[2] = ADD(state[2], c);
        state[3] = ADD(state[3], d), state[4] = ADD(state[4], e), state[5] = ADD(state[5], f);
        state[6] = ADD(state[6], g), state[7] = ADD(state[7], h);
    }
    for (int i = 0; i < 8; i++) {
        u32 word[8] __attribute__((aligned(32)));
        _mm256_store_si256((__m256i *)word, state[i]);
        for (int lane = 0; lane < 8; lane++) {
            u32 big = __builtin_bswap32(word[lane]);
            __builtin_memcpy_inline(out + 32 * lane + 4 * i, &big, 4);
        }
    }
}

AVX2 static void leaves_by_avx2(const u32 *rows, size_t n, const u32 *start, u8 *out) {
    u8 messages[8 * 192], digests[8 * 32];
    for (size_t i = 0; i < n; i += 8) {
        size_t count = n - i < 8 ? n - i : 8;
        for (size_t lane = 0; lane < 8; lane++)
            leaf_blocks(messages + 192 * lane, rows + (i + (lane < count ? lane : 0)) * ROW_WORDS);
        eight_by_avx2(messages, 192, 3, start, digests);
        copy(out + 32 * i, digests, 32 * count);
    }
}

AVX2 static void nodes_by_avx2(const u8 *pairs, size_t n, const u32 *start, u8 *out) {
    u8 messages[8 * 128], digests[8 * 32];
    for (size_t i = 0; i < n; i += 8) {
        size_t count = n - i < 8 ? n - i : 8;
        for (size_t lane = 0; lane < 8; lane++)
            node_blocks(messages + 128 * lane, pairs + 64 * (i + (lane < count ? lane : 0)));
        eight_by_avx2(messages, 128, 2, start, digests);
        copy(out + 32 * i, digests, 32 * count);
    }
}

static void cpuid(u32 leaf, u32 *a, u32 *b, u32 *c, u32 *d) {
    __asm__ volatile("cpuid" : "=a"(*a), "=b"(*b), "=c"(*c), "=d"(*d) : "a"(leaf), "c"(0));
}

/* 2: SHA instructions, 1: AVX2 (also enabled by the operating system), 0: neither. */
int lanes_level(void) {
    u32 a, b, c, d, most;
    cpuid(0, &most, &b, &c, &d);
    if (most < 7)
        return 0;
    cpuid(1, &a, &b, &c, &d);
    int sse41 = (c >> 19) & 1 & (c >> 9), saved = (c >> 27) & (c >> 28) & 1;
    cpuid(7, &a, &b, &c, &d);
    if (sse41 && (b >> 29) & 1)
        return 2;
    if (!saved || !((b >> 5) & 1))
        return 0;
    u32 low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (low & 6) == 6;
}

/* rows: n x 38 words; start: the state after the tag block; out: n x 32 bytes. */
void lanes_leaves(int level, const u32 *rows, size_t n, const u32 *start, u8 *out) {
    (level == 2 ? leaves_by_sha : leaves_by_avx2)(rows, n, start, out);
}

/* pairs: n x 64 bytes; out: n x 32 bytes. */
void lanes_nodes(int level, const u8 *pairs, size_t n, const u32 *start, u8 *out) {
    (level == 2 ? nodes_by_sha : nodes_by_avx2)(pairs, n, start, out);
}

/* The state after one block from the initial value: what every message of a tag shares. */
void lanes_start(const u8 *block, u32 *state) {
    static const u32 initial[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                   0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    u32 w[64], v[8];
#define R(x, n) ((x) >> (n) | (x) << (32 - (n)))
    for (int i = 0; i < 16; i++) {
        __builtin_memcpy_inline(&w[i], block + 4 * i, 4);
        w[i] = __builtin_bswap32(w[i]);
    }
    for (int i = 16; i < 64; i++)
        w[i] = w[i - 16] + (R(w[i - 15], 7) ^ R(w[i - 15], 18) ^ w[i - 15] >> 3) + w[i - 7] +
               (R(w[i - 2], 17) ^ R(w[i - 2], 19) ^ w[i - 2] >> 10);
    for (int i = 0; i < 8; i++)
        v[i] = initial[i];
    for (int i = 0; i < 64; i++) {
        u32 t1 = v[7] + (R(v[4], 6) ^ R(v[4], 11) ^ R(v[4], 25)) + ((v[4] & v[5]) ^ (~v[4] & v[6])) + K[i] + w[i];
        u32 t2 = (R(v[0], 2) ^ R(v[0], 13) ^ R(v[0], 22)) + ((v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]));
        for (int k = 7; k > 0; k--)
            v[k] = v[k - 1];
        v[4] += t1;
        v[0] = t1 + t2;
    }
    for (int i = 0; i < 8; i++)
        state[i] = initial[i] + v[i];
}
