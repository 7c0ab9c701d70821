/*
 * Is an American option worth more exercised than held? A binomial tree (Cox, Ross & Rubinstein 1979) of 64 levels in
 * fixed point: Q32 for rates and probabilities, prices scaled so that the highest node fits 31 bits.
 * btcfi/options/payoff.py repeats every rounding; btcfi/pricing/american.py is what both are measured against.
 */
#include "settlement.h"

#define LEVELS 64
#define NODES (2 * LEVELS + 1)
#define LARGEST_STEP 805306368u /* 0.1875 in Q32: volatility * sqrt(years) = 1.5 over 64 levels */
#define SMALLEST_STEP 4096u     /* keeps sinh(step) far above its rounding */

static u32 exercise[NODES]; /* value of exercising at price spot * up^(k - LEVELS); 0 where knocked out */
static u32 alive[NODES];    /* mask: 0 at or beyond the barrier */
static u32 value[LEVELS + 1];

/* sqrt(minutes) in Q20, floor, digit by digit. */
static u32 square_root_q20(u32 minutes) {
    u64 rest = (u64)minutes << 40, root = 0;
    for (u64 bit = (u64)1 << 58; bit; bit >>= 2) {
        if (rest >= root + bit) {
            rest -= root + bit;
            root = (root >> 1) + bit;
        } else {
            root >>= 1;
        }
    }
    return (u32)root;
}

/* sinh(x) and cosh(x) - 1, Q32 in and out, x < 0.19. */
static void hyperbolic(u32 x, u32 *odd, u32 *even) {
    u32 term = x, sums[2] = {0, x};
    for (u32 k = 2; k <= 10; k++) {
        term = high_word_of_product(term, x) / k;
        sums[k & 1u] += term;
    }
    *even = sums[0];
    *odd = sums[1];
}

static inline u32 bit_length(u32 v) {
    u32 n = 0;
    while (v) {
        n++;
        v >>= 1;
    }
    return n;
}

/* v * 2^shift, at most 2^32 - 1. */
static u32 scaled(u32 v, int shift) {
    if (shift < 0)
        return -shift > 31 ? 0 : v >> -shift;
    return bit_length(v) + (u32)shift > 32u ? 0xFFFFFFFFu : v << shift;
}

u32 exercise_now(const struct terms *terms) {
    u32 ignored;
    /* step = volatility * sqrt(minutes / (525600 * 64)); 57998621 = sqrt(525600 * 64) * 10^4, rounded. */
    struct wide spread = product(terms->volatility << 12, square_root_q20(terms->minutes));
    struct wide wide_step = divide(spread, 57998621u, &ignored);
    if (wide_step.high || wide_step.low > LARGEST_STEP)
        return TREE_REFUSED;
    /* growth = rate * minutes / (10^4 * 525600 * 64) = rate * minutes * 2^25 / 2628000000 in Q32 */
    u32 growth = divide(product(terms->rate * terms->minutes, 1u << 25), 2628000000u, &ignored).low;
    u32 step = wide_step.low;
    step = step > growth ? step : growth; /* keeps the probability within 0..1 */
    step = step > SMALLEST_STEP ? step : SMALLEST_STEP;

    u32 sinh_step, cosh_step, sinh_growth, cosh_growth; /* both cosh less 1 */
    hyperbolic(step, &sinh_step, &cosh_step);
    hyperbolic(growth, &sinh_growth, &cosh_growth);
    u32 up_less_one = sinh_step + cosh_step;
    u32 down = 0u - sinh_step + cosh_step;
    u32 discount = 0u - sinh_growth + cosh_growth - (growth == 0);
    struct wide odds = {0, sinh_growth + cosh_growth + sinh_step - cosh_step}; /* e^growth - down */
    u32 width = 2u * sinh_step;
    u32 probability = odds.high >= width ? 0xFFFFFFFFu : divide_digits(odds, width, &ignored);
    u32 weight_up = high_word_of_product(probability, discount);
    u32 weight_down = discount - weight_up;

    /* 93 / 2^32 * step bounds 64 * step in bits: 64 / ln 2 = 92.33. */
    int shift = 31 - (int)(high_word_of_product(step, 93u) + 1u) - (int)bit_length(terms->spot);
    int strike_shift = 31 - (int)bit_length(terms->strike);
    shift = shift < strike_shift ? shift : strike_shift;
    u32 strike = scaled(terms->strike, shift), spot = scaled(terms->spot, shift);
    u32 barrier = scaled(terms->barrier, shift);
    u32 is_up = terms->strike < terms->barrier, exists = 0u < terms->barrier;
    u32 put = mask(terms->option_type & 1u), binary = mask(terms->option_type >> 1);

    u32 prices[NODES];
    prices[LEVELS] = spot;
    for (u32 k = LEVELS; k < NODES - 1; k++)
        prices[k + 1] = prices[k] + high_word_of_product(prices[k], up_less_one);
    for (u32 k = LEVELS; k > 0; k--)
        prices[k - 1] = high_word_of_product(prices[k], down);
    for (u32 k = 0; k < NODES; k++) {
        u32 price = prices[k];
        u32 in_the_money = ((strike < price) & ~put) | ((price < strike) & put);
        u32 knocked = exists & ((is_up & (barrier <= price)) | ((1u - is_up) & (price <= barrier)));
        u32 difference = ((price - strike) ^ put) - put;
        alive[k] = ~mask(knocked);
        exercise[k] = ((difference & ~binary) | (strike & binary)) & mask(in_the_money) & alive[k];
    }

    for (u32 j = 0; j <= LEVELS; j++)
        value[j] = exercise[2 * j];
    for (u32 level = LEVELS - 1; level > 0; level--) {
        const u32 *now = exercise + (LEVELS - level), *living = alive + (LEVELS - level);
        u32 below = value[0];
        for (u32 j = 0; j <= level; j++) {
            u32 above = value[j + 1];
            u32 held = (high_word_of_product(weight_up, above) + high_word_of_product(weight_down, below)) & living[2 * j];
            u32 exercised = now[2 * j];
            value[j] = held > exercised ? held : exercised;
            below = above;
        }
    }
    u32 held = high_word_of_product(weight_up, value[1]) + high_word_of_product(weight_down, value[0]);
    u32 exercised = exercise[LEVELS];
    return (0u < exercised) & (1u - (exercised < held));
}
