/* The payoff core: no branch, no 64-bit comparison, so that a dispute can replay it in Bitcoin Script. */
#include "settlement.h"

/* floor(n / 100) by base-65536 digits: a remainder below 100 leaves room for the next digit in one word. */
static inline struct wide hundredths(struct wide n) {
    struct wide q;
    q.high = n.high / 100u;
    u32 upper = ((n.high - q.high * 100u) << 16) | (n.low >> 16);
    u32 upper_digit = upper / 100u;
    u32 lower = ((upper - upper_digit * 100u) << 16) | (n.low & 0xFFFFu);
    q.low = (upper_digit << 16) + lower / 100u;
    return q;
}

__attribute__((noinline)) void payoff(struct payoff *result, u32 option_type, u32 strike, u32 spot, u32 quantity,
                                      u32 barrier_hit) {
    u32 above = strike < spot, below = spot < strike;
    u32 put = mask(option_type & 1u), binary = mask(option_type >> 1);
    u32 alive = 1u - barrier_hit;

    u32 in_the_money = ((above & ~put) | (below & put)) & alive;
    u32 at_the_money = (1u - (above | below)) & alive;
    u32 out_of_the_money = alive - in_the_money - at_the_money;

    u32 difference = ((spot - strike) ^ put) - put; /* negated for a put */
    u32 per_bitcoin = ((difference & ~binary) | (strike & binary)) & mask(in_the_money);

    result->value = product(per_bitcoin, quantity);
    result->cents = hundredths(result->value);
    result->exercise_type =
        in_the_money * IN_THE_MONEY + (out_of_the_money << 1) + (at_the_money * AT_THE_MONEY);
}
