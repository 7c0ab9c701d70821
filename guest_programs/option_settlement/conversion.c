#include "settlement.h"

#define SATS_PER_BTC 100000000u

/* floor(cents * 10^8 / spot) in two divisions: cents = whole * spot + rest, and rest * 10^8 < 2^59. */
struct wide cents_to_sats(struct wide cents, u32 spot, struct wide collateral) {
    u32 rest, ignored;
    struct wide whole = divide(cents, spot, &rest);
    if (whole.high)
        return collateral; /* more than 2^32 bitcoin */
    struct wide sats = product(whole.low, SATS_PER_BTC);
    u32 fraction = divide_digits(product(rest, SATS_PER_BTC), spot, &ignored);
    sats.low += fraction;
    sats.high += sats.low < fraction;
    u32 above = (sats.high > collateral.high) | ((sats.high == collateral.high) & (sats.low > collateral.low));
    return above ? collateral : sats;
}
